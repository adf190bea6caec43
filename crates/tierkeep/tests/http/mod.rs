//! The routes, one behaviour at a time.

mod admin;
mod audit;
mod availability;
mod bad_input;
mod conditions;
mod dashboard;
mod decisions;
mod docs;
mod erased_content_never_returns;
mod erasing;
mod exactness;
mod exposition;
mod health;
mod hostile;
mod hr;
mod logging;
mod metrics;
mod openapi;
mod problems;
mod reading;
mod secrets;
mod serving;
mod sign_in;
mod traffic;
mod verifying;
mod writing;
