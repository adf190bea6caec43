//! Writing a response: owns successful answers, refusals, and moving large conversions off the async threads.

pub(in crate::http) mod answer;
pub(in crate::http) mod offload;
pub(in crate::http) mod problem;
