//! Tests only: a sharded MongoDB cluster of `mongod` processes on loopback, and a router that drivers take for `mongos`.
//!
//! **Architecture invariant:** no driver; nothing but the wire protocol. It is a dev-dependency and never part of the
//! binary.
//!
//! Where to look: [`ShardedCluster`] (starting one, moving chunks, killing shards), `router` (what becomes of a command, and
//! what a router for tests cannot show), `routing` (the config server's tables), [`process`] (one mongod), [`imitation`] (a
//! server that says that it is another product), `wire`, `node`.

mod chunks;
mod cluster;
pub mod imitation;
mod node;
pub mod process;
mod router;
mod routing;
mod wire;

pub use chunks::Shuffle;
pub use cluster::ShardedCluster;
pub use router::{AutoShard, Key};
