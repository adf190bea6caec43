//! Scenarios: the actors, the databases, and the faults that may occur. Where to look next: `check`.

use std::time::Duration;

use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::version::Version;
use tierkeep_engine::MoverSettings;

use crate::actor::{Ack, Making, Program};

/// What may still go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Trouble {
    /// Actors that crash and begin again.
    pub crashes: u8,
    /// Calls that are carried out, wholly or by half, and whose answers are lost.
    pub lost: u8,
    /// Calls that are held in flight: the caller gets a timeout, and they arrive at any later moment.
    pub late: u8,
    /// Times that srie goes away; it comes back.
    pub outages: u8,
    /// Times that time passes.
    pub waits: u8,
}

/// Who does what to which databases, and what goes wrong meanwhile.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The actors, each of which goes through its program once.
    pub actors: Vec<Program>,
    /// What the databases hold at the beginning.
    pub planted: Vec<(Role, RawDocumentBuf)>,
    /// The answers to clients before the beginning.
    pub acks: Vec<Ack>,
    /// What goes wrong.
    pub trouble: Trouble,
    /// How long documents stay in temp.
    pub retention: Duration,
    /// How much time passes at once.
    pub wait: Duration,
    /// This many of the actors, the last ones, begin only when no more time passes.
    pub late: usize,
    /// Documents may be quarantined.
    pub quarantine: bool,
    /// There are documents of other programs, so that clients too write to main and srie.
    pub adopting: bool,
    /// Tombstones may go while an actor still writes: what comes late is erased once it is there, not kept out.
    pub graceless: bool,
    /// Main was put back from an older copy: what srie holds of the sections of this name must never be lost.
    pub kept: Option<&'static str>,
    /// The check ends after about this many steps, those that begin a way first; without it all are taken.
    pub most: Option<usize>,
    /// The guard that is missing.
    #[cfg(feature = "mutants")]
    pub mutant: Option<tierkeep_engine::Mutant>,
}

impl Scenario {
    /// Actors over empty databases, without trouble; everything is due at once.
    pub fn of(actors: impl IntoIterator<Item = Program>) -> Self {
        Self {
            actors: actors.into_iter().collect(),
            planted: Vec::new(),
            acks: Vec::new(),
            trouble: Trouble::default(),
            retention: Duration::ZERO,
            wait: Duration::from_secs(6),
            late: 0,
            quarantine: false,
            adopting: false,
            graceless: false,
            kept: None,
            most: None,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }

    pub(crate) fn is_erasing(&self) -> bool {
        let erases = |actor: &Program| matches!(actor, Program::Erase { .. });
        self.actors.iter().any(erases)
    }

    /// Whether another program puts the content of the beginning back after an erasure.
    pub(crate) fn inserts_again(&self) -> bool {
        let inserts = |actor: &Program| matches!(actor, Program::InsertAgain { .. });
        self.actors.iter().any(inserts)
    }

    /// How often a user can have been erased at most: as often as actors ask, and as the copies say.
    pub(crate) fn most_erasures(&self) -> i64 {
        let asked = self
            .actors
            .iter()
            .filter(|it| matches!(it, Program::Erase { .. }));
        let asked = i64::try_from(asked.count()).unwrap_or(i64::MAX);
        let planted = self.planted.iter();
        let planted = planted.filter_map(|(_, document)| document::version(document));
        let before = planted.map(Version::epoch).max().unwrap_or_default();
        before + asked + i64::from(self.trouble.crashes)
    }

    pub(crate) fn making(&self) -> Making {
        Making {
            erasing: self.is_erasing(),
            quarantine: self.quarantine,
            settings: MoverSettings {
                retention: self.retention,
                batch_documents: 2,
                batches_in_flight: 1,
                retry_backoff: Duration::ZERO,
                ..MoverSettings::default()
            },
            #[cfg(feature = "mutants")]
            mutant: self.mutant,
        }
    }
}
