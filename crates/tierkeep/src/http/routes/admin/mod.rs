//! `/v1/admin`: the movement, as administrators see and control it. One file for each route.
//!
//! Every route takes a JWT with the role admin, and no other credential counts.
//!
//! Where to look: `task` (work that may take longer than a request).

pub(in crate::http) mod alerts;
pub(in crate::http) mod audit;
pub(in crate::http) mod backup;
pub(in crate::http) mod migrations;
pub(in crate::http) mod mover;
pub(in crate::http) mod overview;
pub(in crate::http) mod restore;
pub(in crate::http) mod retry;
pub(in crate::http) mod run;
pub(in crate::http) mod task;
pub(in crate::http) mod user;
pub(in crate::http) mod verify;

/// How the audit trail says that an administrator came.
const OVER_HTTP: &str = "over HTTP";
