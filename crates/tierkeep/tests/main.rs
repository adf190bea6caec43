//! The binary as its users see it, from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod acceptance;
mod common;
mod http;
mod property_1_external_user_database_routing;
mod property_2_internal_user_initial_storage;
mod property_5_authentication_requirements;
mod property_7_connection_string_correctness;
mod readme;
mod settings;
#[expect(dead_code, reason = "the tests of the verifier alone use more of it")]
#[path = "../../identity/tests/support/mod.rs"]
mod tokens;
