//! Test support: a memory store, a manual clock, generators, invariants, the store conformance suite.
