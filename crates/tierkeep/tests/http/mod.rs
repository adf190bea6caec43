//! The routes, one behaviour at a time.

mod admin;
mod audit;
mod availability;
mod bad_input;
mod conditions;
mod decisions;
mod erased_content_never_returns;
mod erasing;
mod health;
mod hostile;
mod logging;
mod openapi;
mod problems;
mod reading;
mod secrets;
mod serving;
mod traffic;
mod writing;
