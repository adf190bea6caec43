//! The User Type Detector: JWT and GitHub checks over the pure decision.
