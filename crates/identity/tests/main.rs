//! The tests of `tierkeep-identity`, one binary.
