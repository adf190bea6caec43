//! What is to be done about each internal user, decided from the copies in temp, main and srie.

use crate::claims::CurrentCopy;
use crate::copies::staging::{is_abandoned, withdraw};
use crate::transfer::import::external::refused;
use crate::transfer::import::stored_form::{ImportedState, is_as_imported, standing};
use crate::transfer::import::{Import, ImportOutcome, heads};
use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::document::{self};
use tierkeep_core::legacy::Composed;
use tierkeep_core::store::StoreError;
use tierkeep_core::version::Version;

/// What is to be done about one user.
pub(super) enum Step {
    /// Nothing; this is what became of it.
    Over(ImportOutcome),
    /// Into temp, above this version of main.
    Enter(Option<Version>),
    /// In the place of the older import in temp.
    Replace,
    /// To srie and main, at this version.
    ImportToMain(Version),
    /// A recent import is in main, and temp holds the document of a user who signed up in the meantime.
    RemoveImported,
}

impl Import {
    /// Looks at all copies and says what is to be done about each user.
    pub(super) async fn steps(&self, arrivals: &[&Composed]) -> Result<Vec<Step>, StoreError> {
        let engine = &self.engine;
        let temp = engine.databases.raseen_temp_db();
        let now = temp.store().hello().await?.now;
        let cutoff = clock::before(now, self.settings.retention);
        let erased = self.erased(arrivals).await?;
        let users: Vec<String> = arrivals.iter().map(|it| it.user.to_string()).collect();
        let mut in_temp = heads(temp, &users).await?;
        let mut in_main = heads(engine.databases.raseen_main_db(), &users).await?;
        let mut in_srie = heads(engine.databases.srie_main_db(), &users).await?;
        let mut steps = Vec::with_capacity(arrivals.len());
        for (arrival, erased) in arrivals.iter().zip(erased) {
            let user = &arrival.user;
            let of = |found: &mut std::collections::HashMap<String, Vec<RawDocumentBuf>>| {
                CurrentCopy::among(found.remove(user.as_str()).unwrap_or_default(), user)
            };
            let (temp, main, srie) = (of(&mut in_temp), of(&mut in_main), of(&mut in_srie));
            steps.push(match temp {
                _ if erased => Step::Over(ImportOutcome::Erased),
                CurrentCopy::Erased(_) => Step::Over(ImportOutcome::Erased),
                CurrentCopy::Foreign(_) | CurrentCopy::Unclear(_) => Step::Over(ImportOutcome::Own),
                CurrentCopy::Entering(entry) => {
                    // One of an import that was cut off need not grow old.
                    let left = is_abandoned(&entry, engine.clock().now()) || is_as_imported(&entry);
                    if left && !self.dry_run {
                        let nonce = document::nonce(&entry).unwrap_or_default();
                        withdraw(engine, user, nonce).await?;
                    }
                    Step::Over(ImportOutcome::Busy)
                }
                CurrentCopy::Live(live) => match standing(&live, arrival) {
                    ImportedState::Same(_) => Step::Over(ImportOutcome::Same),
                    ImportedState::Older(_) => Step::Replace,
                    ImportedState::Changed => Step::Over(ImportOutcome::Changed),
                    ImportedState::Own
                        if is_shadowed(&main, &live) || is_shadowed(&srie, &live) =>
                    {
                        Step::RemoveImported
                    }
                    ImportedState::Own => Step::Over(ImportOutcome::Own),
                },
                CurrentCopy::Absent => {
                    after_temp(arrival, &main, &srie, arrival.created_at > cutoff)
                }
            });
        }
        Ok(steps)
    }
}

/// What is to be done about a user without a document in temp.
pub(super) fn after_temp(
    arrival: &Composed,
    main: &CurrentCopy,
    srie: &CurrentCopy,
    young: bool,
) -> Step {
    match main {
        CurrentCopy::Live(live) => match standing(live, arrival) {
            ImportedState::Same(version) if live_version(srie) >= Some(version) => {
                Step::Over(ImportOutcome::Same)
            }
            // A backup that was lost is made again.
            ImportedState::Same(version) => Step::ImportToMain(version),
            ImportedState::Older(version) => Step::Enter(Some(version)),
            ImportedState::Changed => Step::Over(ImportOutcome::Changed),
            ImportedState::Own => Step::Over(ImportOutcome::Own),
        },
        CurrentCopy::Erased(_) => Step::Over(ImportOutcome::Erased),
        CurrentCopy::Foreign(_) | CurrentCopy::Unclear(_) => Step::Over(ImportOutcome::Own),
        CurrentCopy::Entering(_) => Step::Over(ImportOutcome::Busy),
        CurrentCopy::Absent => match srie {
            CurrentCopy::Absent if young => Step::Enter(None),
            CurrentCopy::Absent => Step::ImportToMain(Version::FIRST),
            // An earlier run was cut off between srie and main.
            CurrentCopy::Live(live) => match standing(live, arrival) {
                ImportedState::Same(version) => Step::ImportToMain(version),
                ImportedState::Older(version) => version.next().map_or(
                    Step::Over(refused(arrival, "its version numbers are exhausted")),
                    Step::ImportToMain,
                ),
                ImportedState::Changed | ImportedState::Own => Step::Over(ImportOutcome::Own),
            },
            CurrentCopy::Erased(_) => Step::Over(ImportOutcome::Erased),
            CurrentCopy::Foreign(_) | CurrentCopy::Unclear(_) => Step::Over(ImportOutcome::Own),
            CurrentCopy::Entering(_) => Step::Over(ImportOutcome::Busy),
        },
    }
}

pub(super) fn live_version(resident: &CurrentCopy) -> Option<Version> {
    match resident {
        CurrentCopy::Live(live) => document::version(live),
        CurrentCopy::Absent
        | CurrentCopy::Foreign(_)
        | CurrentCopy::Entering(_)
        | CurrentCopy::Erased(_)
        | CurrentCopy::Unclear(_) => None,
    }
}

/// Whether `copy` is an import that temp's own document knows nothing of.
pub(super) fn is_shadowed(copy: &CurrentCopy, own: &RawDocumentBuf) -> bool {
    match copy {
        CurrentCopy::Live(copy) => {
            is_as_imported(copy) && document::version(copy) >= document::version(own)
        }
        CurrentCopy::Absent
        | CurrentCopy::Foreign(_)
        | CurrentCopy::Entering(_)
        | CurrentCopy::Erased(_)
        | CurrentCopy::Unclear(_) => false,
    }
}
