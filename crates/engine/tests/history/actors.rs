//! The actors of a history: the calls that each makes to the engine, and the answers.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bson::doc;
use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::user::{Section, UserId};
use tierkeep_engine::{
    EraseError, Erased, ErasureService, MigrationService, MoveError, MoverSettings, NoProgress,
    Receipt, RunOptions, Summary, UsersError,
};
use tokio_util::sync::CancellationToken;

use super::reference::{Deed, Sections, Token, Write};
use super::stage::Process;
use crate::world::patient_users;

/// The answer to an actor.
pub enum Told {
    Wrote(usize, Token, Result<Receipt, UsersError>),
    Moved(Result<Summary, MoveError>),
    Erased(usize, Result<Erased, EraseError>),
    Kept,
}

pub type Acting = Pin<Box<dyn Future<Output = Told> + Send>>;

fn mark(token: Token) -> String {
    format!("w{token}")
}

/// The marks in a document.
pub fn marks(document: &RawDocumentBuf) -> Sections {
    let mut sections = Sections::new();
    for name in super::plan::SECTIONS {
        let Ok(section) = document.get_document(name) else {
            continue;
        };
        let marks = section.iter().map(|entry| {
            let (key, _) = entry.unwrap();
            key.as_str().strip_prefix('w').unwrap().parse().unwrap()
        });
        sections.insert(name, marks.collect());
    }
    sections
}

pub fn write(process: &Process, user: usize, id: &UserId, write: &Write) -> Acting {
    let users = patient_users(&process.engine);
    let (id, write) = (id.clone(), write.clone());
    Box::pin(async move {
        let section = Section::parse(write.section).unwrap();
        let content = doc! { mark(write.token): i64::from(write.token) };
        let content = RawDocumentBuf::try_from(&content).unwrap();
        let condition = write.condition;
        let told = match write.deed {
            Deed::Put => users.put(&id, &section, content, condition).await,
            Deed::Patch => users.patch(&id, &section, &content, condition).await,
            Deed::Remove => users.remove(&id, &section, condition).await,
        };
        Told::Wrote(user, write.token, told)
    })
}

/// The settings of movers: small batches, one after the other, so that a held mover does nothing else.
pub fn settings() -> MoverSettings {
    MoverSettings {
        batch_documents: 2,
        batches_in_flight: 1,
        retry_backoff: Duration::ZERO,
        ..MoverSettings::default()
    }
}

pub fn migrate(process: &Process, at_once: bool) -> Acting {
    let engine = Arc::clone(&process.engine);
    Box::pin(async move {
        engine.databases().heal().await;
        let service = MigrationService::new(engine, settings());
        let options = RunOptions {
            older_than: at_once.then_some(Duration::ZERO),
            ..RunOptions::default()
        };
        let stop = CancellationToken::new();
        Told::Moved(
            service
                .migrate_expired_data(options, &NoProgress, &stop)
                .await,
        )
    })
}

pub fn erase(process: &Process, user: usize, id: &UserId) -> Acting {
    let erasures = ErasureService::new(Arc::clone(&process.engine));
    let id = id.clone();
    Box::pin(async move { Told::Erased(user, erasures.erase(&id).await) })
}

/// `None` while the upkeep of this process is held.
pub fn keep_up(process: &Process, uptime: Duration) -> Option<Acting> {
    let mut upkeep = Arc::clone(&process.upkeep).try_lock_owned().ok()?;
    let engine = Arc::clone(&process.engine);
    Some(Box::pin(async move {
        engine.databases().heal().await;
        upkeep.round(uptime).await;
        Told::Kept
    }))
}
