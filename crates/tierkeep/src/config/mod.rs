//! Settings: where they come from, what they are, and what is wrong with them.
//!
//! Owns everything between the command line, the environment and `tierkeep.toml` on one side and the types [`Settings`]
//! and [`ServiceSettings`] on the other. Must never contact a database, fall back to something that was not asked for,
//! or reveal the value of a secret. One check finds all problems.
//!
//! Where to look: [`table`] (every setting), [`source`] (the layers), [`loaded`] (the layers put together),
//! [`settings`] (the types), [`databases`], [`identity`], [`audit`], [`alerts`] and [`legacy`] (what must hold
//! between values), [`rotated`] (keys and secrets that are read again).

pub mod alerts;
pub mod audit;
pub mod connection_string;
pub mod databases;
mod dotenv;
pub mod environment;
mod file;
pub mod identity;
pub mod kind;
mod kubernetes;
mod layers;
pub mod legacy;
pub mod loaded;
pub mod problem;
pub mod rotated;
pub mod secret_key;
pub mod settings;
pub mod shown;
pub mod small_file;
pub mod source;
mod suggest;
pub mod table;
pub mod template;
pub mod units;

pub use alerts::AlertConfig;
pub use audit::AuditConfig;
pub use databases::{Backend, Connection};
pub use identity::{IdentitySettings, KeySource};
pub use legacy::{ImportSettings, LegacySource};
pub use loaded::Loaded;
pub use problem::{Problem, Problems};
pub use secret_key::{SecretKeyError, copy_keys, private_directory};
pub use settings::{HttpSettings, LogFormat, MaxBody, ServiceSettings, Settings};
pub use source::{Flag, Inputs, Raw, Source};
