//! What a verb gets: settings on demand, the clock, and a place for its results.

use std::sync::Arc;

use tierkeep_core::clock::Clock;
use tierkeep_engine::{Engine, Opened, Purpose};

use crate::config::{Loaded, Problems, ServiceSettings, Settings};
use crate::open::{Servers, open};
use crate::output::{Format, Output};

/// What a verb gets besides its arguments.
#[derive(Clone, Debug)]
pub struct Context {
    /// All layers of settings, for verbs that look at settings themselves.
    pub loaded: Loaded,
    /// The form of results.
    pub format: Format,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The connections of this process; closed when the verb has ended.
    pub servers: Arc<Servers>,
}

impl Context {
    /// The settings of a verb that opens the databases.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration, at once; exit code 2.
    pub fn settings(&self) -> Result<Settings, Problems> {
        Settings::of(&self.loaded)
    }

    /// The settings of the service: the above, identity and HTTP.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration, at once; exit code 2.
    pub fn service(&self) -> Result<ServiceSettings, Problems> {
        ServiceSettings::of(&self.loaded)
    }

    /// The databases, reached, compared and admitted, and which of them are away.
    ///
    /// # Errors
    /// What is wrong with the settings or the databases; nothing was written to any of them.
    pub async fn open(
        &self,
        settings: &Settings,
        purpose: Purpose,
    ) -> anyhow::Result<(Arc<Engine>, Opened)> {
        open(&self.servers, settings, purpose).await
    }

    /// Where results go.
    pub fn output(&self) -> Output {
        Output::stdout(self.format)
    }
}
