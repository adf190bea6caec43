//! HTTP: owns the way from a request to the engine and back, and what answers look like.
//!
//! Must never know a backend, decide who is asking or where a document goes (that is
//! `tierkeep_core`'s), or let a token, a query or a body reach a log.
//!
//! The rooms, from the top down; a room imports only from rooms below it: `server` (connections, layers), `ui` (the dashboard),
//! `routes` (one file for each route), `openapi` (the document about them), `request` (reading a request), `state` (what
//! routes share), `limits` (how much and how often), `response` (answers and refusals).

mod limits;
mod openapi;
mod request;
mod response;
mod routes;
mod server;
mod state;
mod ui;

pub use limits::Limits;
pub use limits::bucket::{Steady, steady};
pub use limits::memory::BodyMemory;
pub use limits::traffic::{Traffic, TrafficSettings};
pub use response::problem::{Code, Problem};
pub use server::{Connections, Routers, router, routers, serve, starting};
pub use state::mover::Mover;
pub use state::probe::{HealthSource, Phase};
pub use state::sessions::Sessions;
pub use state::{HttpState, Shared};
