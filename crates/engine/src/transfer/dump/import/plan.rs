//! What becomes of a document of a dump, decided from what is stored.

use crate::claims::{Consistency, by_user, claims, native};
use crate::transfer::dump::import::DumpOutcome;
use crate::transfer::dump::import::candidate::{Candidate, is_entry};
use crate::transfer::dump::import::stored::{Content, compared, heads};
use crate::transfer::dump::import::users::Import;
use std::collections::HashMap;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::db::{Role, UserDatabase};
use tierkeep_core::digest::{self, Digest};
use tierkeep_core::document::{self};
use tierkeep_core::store::StoreError;
use tierkeep_core::version::Version;

/// What is stored of the users of a page, heads alone.
pub(super) struct Stored {
    /// In the database that is filled.
    here: HashMap<String, Vec<RawDocumentBuf>>,
    /// In those whose copy would count before it, or that it would hide.
    beside: Vec<(Role, HashMap<String, Vec<RawDocumentBuf>>)>,
    /// How the documents here compare that have the version of the dump's; those that are gone again are left out.
    contents: HashMap<String, Content>,
}

/// What is to be done with a document.
pub(super) enum Plan {
    Done(DumpOutcome),
    Write,
    /// What is stored has moved or changed while it was looked at: to be looked at again.
    Changed,
}

impl<D: UserDatabase> Import<'_, D> {
    pub(super) async fn stored(&self, candidates: &[Candidate]) -> Result<Stored, StoreError> {
        let users: Vec<String> = candidates.iter().map(|it| it.user.to_string()).collect();
        let here = by_user(self.database, &users, heads()).await?;
        let (temp, main) = (
            self.engine.databases.raseen_temp_db(),
            self.engine.databases.raseen_main_db(),
        );
        let mut beside = Vec::new();
        if [Role::RaseenMainUser, Role::SrieMainUser].contains(&D::ROLE) {
            beside.push((Role::RaseenTempUser, by_user(temp, &users, heads()).await?));
        }
        if [Role::RaseenTempUser, Role::SrieMainUser].contains(&D::ROLE) {
            beside.push((Role::RaseenMainUser, by_user(main, &users, heads()).await?));
        }
        let contents = {
            // A claim that agrees is enough where copies claim their digest; what temp claims is stale.
            let claim = [Role::RaseenMainUser, Role::SrieMainUser].contains(&D::ROLE);
            let mut doubtful = Vec::new();
            let mut same = HashMap::new();
            for candidate in candidates.iter().filter(|it| it.version.is_some()) {
                let head = here
                    .get(candidate.user.as_str())
                    .and_then(|claims| native(claims, &candidate.user))
                    .filter(|head| document::version(head) == candidate.version);
                let Some(head) = head else { continue };
                let claimed = Digest::claimed_by(head);
                if claim
                    && claimed.is_some()
                    && claimed == Digest::claimed_by(&candidate.document)
                    && document::state(head) == document::state(&candidate.document)
                {
                    same.insert(candidate.user.to_string(), Content::Same);
                } else {
                    doubtful.push(&candidate.document);
                }
            }
            same.extend(compared(self.database, &doubtful).await?);
            same
        };
        Ok(Stored {
            here,
            beside,
            contents,
        })
    }

    pub(super) async fn plan(
        &self,
        candidate: &Candidate,
        fence: Option<Version>,
        stored: &Stored,
    ) -> Result<Plan, StoreError> {
        let none = Vec::new();
        let user = candidate.user.as_str();
        let here = stored.here.get(user).unwrap_or(&none);
        let beside = stored
            .beside
            .iter()
            .map(|(role, claims)| (*role, claims.get(user).unwrap_or(&none)));
        let Some(version) = candidate.version else {
            if fence.is_some() {
                return Ok(Plan::Done(DumpOutcome::Erased));
            }
            return self.plan_foreign(candidate, here, beside).await;
        };
        // A tombstone's version is its fence; what is live at that version counts as erased.
        let is_covered = |fence| version < fence || (version == fence && !candidate.is_tombstone);
        if fence.is_some_and(is_covered) {
            return Ok(Plan::Done(DumpOutcome::Erased));
        }
        if !candidate.is_tombstone && here.iter().any(|it| !document::is_native(it)) {
            let reason = "the stored document of this user is another program's and has no version to compare with";
            return Ok(refused(reason));
        }
        // An entry is not counted, and its writer finds out when it is taken over.
        if let Some(head) = native(here, &candidate.user).filter(|head| !is_entry(head))
            && let Some(found) = document::version(head)
        {
            if found > version {
                return Ok(Plan::Done(DumpOutcome::NewerKept));
            }
            if found == version {
                return Ok(match stored.contents.get(user) {
                    Some(Content::Same) => Plan::Done(DumpOutcome::Unchanged),
                    Some(Content::Other) => refused(&format!(
                        "version {version} is stored with different content"
                    )),
                    None => Plan::Changed,
                });
            }
        }
        if candidate.is_tombstone {
            return Ok(Plan::Write);
        }
        for (role, claims) in beside {
            let found = native(claims, &candidate.user).filter(|it| !is_entry(it));
            let Some(found) = found.and_then(|found| document::version(found)) else {
                continue;
            };
            match (D::ROLE, role) {
                (Role::RaseenTempUser, Role::RaseenMainUser) if found > version => {
                    return Ok(Plan::Done(DumpOutcome::NewerKept));
                }
                // It has moved.
                (Role::RaseenTempUser, Role::RaseenMainUser) if found == version => {
                    let main = self.engine.databases.raseen_main_db();
                    let contents = compared(main, &[&candidate.document]).await?;
                    return Ok(match contents.get(user) {
                        Some(Content::Same) => Plan::Done(DumpOutcome::Unchanged),
                        Some(Content::Other) => refused(&format!(
                            "{role} holds version {version} with different content"
                        )),
                        None => Plan::Changed,
                    });
                }
                (Role::RaseenMainUser, Role::RaseenTempUser) if found < version => {
                    return Ok(refused(&hidden(found, version)));
                }
                _ => {}
            }
        }
        Ok(Plan::Write)
    }

    /// A document of another program is put where nothing of its user is stored that it would contradict: nothing
    /// tells which of two is newer.
    pub(super) async fn plan_foreign(
        &self,
        candidate: &Candidate,
        here: &[RawDocumentBuf],
        beside: impl Iterator<Item = (Role, &Vec<RawDocumentBuf>)>,
    ) -> Result<Plan, StoreError> {
        let fingerprint = digest::fingerprint(&candidate.document);
        let is_from_it =
            |claim: &RawDocumentBuf| document::adopted_from(claim) == Some(fingerprint.as_str());
        if here.iter().any(is_from_it) {
            return Ok(Plan::Done(DumpOutcome::Unchanged));
        }
        if !here.is_empty() {
            let whole = claims(self.database, &candidate.user, Consistency::Majority).await?;
            let is_it = |claim: &RawDocumentBuf| *claim == candidate.document || is_from_it(claim);
            return Ok(if whole.iter().any(is_it) {
                Plan::Done(DumpOutcome::Unchanged)
            } else if whole.is_empty() {
                Plan::Changed
            } else {
                refused("the user exists already, and this document has no version to compare with")
            });
        }
        for (role, claims) in beside {
            if claims.iter().any(is_from_it) {
                return Ok(Plan::Done(DumpOutcome::Unchanged));
            }
            if claims.iter().any(|claim| document::is_native(claim)) {
                return Ok(refused(&format!(
                    "{role} holds the user already, and this document has no version to compare with"
                )));
            }
        }
        Ok(Plan::Write)
    }
}

pub(super) fn hidden(found: Version, version: Version) -> String {
    format!(
        "raseen_temp_user holds version {found} of the user, which would take precedence over version {version}"
    )
}

pub(super) fn refused(reason: &str) -> Plan {
    Plan::Done(DumpOutcome::Refused(reason.to_owned()))
}
