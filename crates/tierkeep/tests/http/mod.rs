//! The routes, one behaviour at a time.

mod admin;
mod availability;
mod bad_input;
mod conditions;
mod health;
mod logging;
mod openapi;
mod problems;
mod reading;
mod serving;
mod writing;
