//! Reading a request: owns who the caller is, the body, the conditional headers and what is known about a request until
//! its log line.

pub(in crate::http) mod body;
pub(in crate::http) mod caller;
pub(in crate::http) mod conditions;
pub(in crate::http) mod context;
pub(in crate::http) mod fields;
pub(in crate::http) mod query;
