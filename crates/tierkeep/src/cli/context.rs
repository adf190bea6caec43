//! What a verb gets: settings on demand, the clock, and a place for its results.

use std::collections::BTreeMap;
use std::sync::Arc;

use tierkeep_core::clock::Clock;
use tierkeep_engine::{Engine, Opened, Purpose};

use crate::config::{Inputs, Loaded, Problems, ServiceSettings, Settings};
use crate::open::{Look, Servers, look, open};
use crate::output::{Format, Output};

/// What a verb gets besides its arguments.
#[derive(Clone, Debug)]
pub struct Context {
    /// What the settings were gathered from, to gather them again.
    pub inputs: Inputs,
    /// All layers of settings, for verbs that look at settings themselves.
    pub loaded: Loaded,
    /// Output format.
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

    /// The databases for a command that only looks: what is away keeps nothing else from being seen.
    ///
    /// # Errors
    /// What is wrong with the settings, or with databases that answered.
    pub async fn look(&self, settings: &Settings) -> anyhow::Result<Look> {
        let look = self.look_again(settings).await?;
        look.warn(&mut BTreeMap::new());
        Ok(look)
    }

    /// The same, without a word on what is away.
    ///
    /// # Errors
    /// As [`Context::look`].
    pub async fn look_again(&self, settings: &Settings) -> anyhow::Result<Look> {
        look(&self.servers, settings).await
    }

    /// Where results go.
    pub fn output(&self) -> Output {
        Output::stdout(self.format)
    }
}
