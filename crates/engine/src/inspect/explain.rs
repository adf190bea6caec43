//! One user: every copy, which one counts, why, and what happens next.

use std::cmp::Reverse;
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, doc};
use serde::Serialize;
use tierkeep_core::adopt;
use tierkeep_core::brief::brief;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, State};
use tierkeep_core::erasure::{Erasure, Stage};
use tierkeep_core::mover::{Record, Status, record_field};
use tierkeep_core::route;
use tierkeep_core::store::{Find, Query, StoreError};
use tierkeep_core::user::{UserId, UserType};

use crate::inspect::Inspector;
use crate::intents;
use crate::mover::quarantine::Marks;

/// One copy of a user's document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Copy {
    /// The database.
    pub database: Role,
    /// The collection.
    pub collection: &'static str,
    /// The version; none for a document of another program.
    pub version: Option<i64>,
    /// When it entered temp, RFC 3339.
    pub staged_at: Option<String>,
    /// When the content last changed, RFC 3339.
    pub updated_at: Option<String>,
    /// Bytes of BSON.
    pub size: usize,
    /// The digest of the content, computed now.
    pub digest: String,
    /// `metadata.backup_status`.
    pub backup_status: Option<String>,
    /// `live`, `entering` or `erased`.
    pub state: &'static str,
}

/// A migration record, shortened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RecordView {
    /// The record's id.
    pub migration_id: String,
    /// The version that moved or moves.
    pub version: i64,
    /// `pending`, `completed` or `failed`.
    pub status: &'static str,
    /// Failed attempts so far.
    pub retry_count: i32,
    /// When it completed, else when it was last tried, RFC 3339.
    pub migration_date: Option<String>,
    /// Not before this time is it tried again, RFC 3339.
    pub next_attempt_at: Option<String>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// The last erasure of a user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ErasureView {
    /// How often the user was erased.
    pub epoch: i64,
    /// `pending` until every database has confirmed it; `verified` while its tombstones stand; `closed`.
    pub stage: &'static str,
    /// When it was asked for, RFC 3339.
    pub requested_at: Option<String>,
    /// When every database had confirmed it, RFC 3339.
    pub verified_at: Option<String>,
    /// The databases that have not confirmed it.
    pub pending: Vec<Role>,
}

/// The state of one user's data, without its content.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Explanation {
    /// Who.
    pub user_id: String,
    /// Internal or external.
    pub user_type: UserType,
    /// The database whose copy counts.
    pub authoritative: Option<Role>,
    /// When the copy in temp is due to move, RFC 3339.
    pub due_at: Option<String>,
    /// The user's content was erased, and nothing was stored since.
    pub erased: bool,
    /// The last erasure, also where a new life began since.
    pub erasure: Option<ErasureView>,
    /// Every copy found.
    pub copies: Vec<Copy>,
    /// The user's latest migration records, newest first; none where `evaluation_audit` did not answer.
    pub records: Option<Vec<RecordView>>,
    /// What happens next, in words.
    pub next: String,
    /// Databases that did not answer.
    pub unreachable: Vec<Role>,
}

impl Inspector {
    /// Looks at every copy of a user's document; `None` when there is none and every database answered.
    pub async fn explain(&self, user: &UserId) -> Option<Explanation> {
        let mut copies = Vec::new();
        let mut unreachable = Vec::new();
        for role in route::reads(user.user_type()) {
            let (Some(store), Some(users)) = (self.engine.databases.store(*role), role.users())
            else {
                continue;
            };
            let find = Find::new(Query::Users(vec![user.to_string()]));
            match store.find(users, &find).await {
                Ok(found) => {
                    copies.extend(found.into_iter().map(|document| (*role, users, document)));
                }
                Err(_) => unreachable.push(*role),
            }
        }
        let erasure = match self.engine.ledger().entry(user).await {
            Ok(erasure) => erasure,
            Err(error) => {
                unreachable.push(error.database);
                None
            }
        };
        let records = self.records_of(user).await;
        let recorded = records.as_deref().unwrap_or_default();
        let nothing = copies.is_empty() && recorded.is_empty() && erasure.is_none();
        if nothing && unreachable.is_empty() {
            return None;
        }
        let fence = erasure.as_ref().and_then(Erasure::fence);
        let tombstone_in = |role: Role| {
            copies.iter().any(|(found, _, document)| {
                *found == role && document::state(document) == Some(State::Erased)
            })
        };
        // As readers see it: what other programs stored counts unless a tombstone precedes it.
        let hidden = |role: Role, document: &RawDocument| {
            if document::is_native(document) {
                document::version(document) <= fence && fence.is_some()
            } else {
                tombstone_in(role) || tombstone_in(Role::RaseenTempUser)
            }
        };
        let live = |role: Role| {
            copies.iter().find(|(found, _, document)| {
                *found == role
                    && document::state(document) == Some(State::Live)
                    && !hidden(role, document)
            })
        };
        let counts = |role: Role| live(role).is_some() || unreachable.contains(&role);
        // Readers fall back to the backup where main is away; where anything else before it is away, it is unknown.
        let authoritative = route::reads(user.user_type())
            .iter()
            .copied()
            .find(|role| *role != Role::RaseenMainUser && counts(*role) || live(*role).is_some())
            .filter(|role| live(*role).is_some());
        let contested = route::reads(user.user_type())
            .iter()
            .copied()
            .find(|role| contest(&copies, *role));
        let authoritative = authoritative.filter(|role| Some(*role) != contested);
        let due_at = live(Role::RaseenTempUser)
            .and_then(|(_, _, document)| staged(document))
            .map(|staged| clock::after(staged, self.settings.retention));
        let quarantined = match live(Role::RaseenTempUser) {
            Some((_, _, document)) => self.quarantine_of(document).await.ok().flatten(),
            None => None,
        };
        let tombstones = Role::ALL.into_iter().any(tombstone_in);
        let erased = authoritative.is_none() && (erasure.is_some() || tombstones);
        let next = if erased {
            after_erasure(erasure.as_ref())
        } else if let Some(role) = contested {
            format!(
                "several documents in {role} claim this user; none of them is current or moves until only one is left: \
                 `tierkeep quarantine list`"
            )
        } else if authoritative.is_none() && !unreachable.is_empty() {
            let away: Vec<&str> = unreachable.iter().map(|role| role.name()).collect();
            format!("unknown: {} did not answer", away.join(", "))
        } else {
            self.next(authoritative, due_at, quarantined, recorded)
        };
        Some(Explanation {
            user_id: user.to_string(),
            user_type: user.user_type(),
            authoritative,
            due_at: due_at.map(rfc3339),
            erased,
            erasure: erasure.as_ref().map(erasure_view),
            copies: copies
                .iter()
                .map(|(role, users, d)| view(*role, users, d))
                .collect(),
            records,
            next,
            unreachable,
        })
    }

    fn next(
        &self,
        authoritative: Option<Role>,
        due_at: Option<DateTime>,
        quarantined: Option<String>,
        records: &[RecordView],
    ) -> String {
        match authoritative {
            Some(Role::RaseenTempUser) => {}
            Some(Role::RaseenMainUser) => {
                return "stays in raseen_main_user, with its backup in srie_main_user; the next write copies it to \
                        raseen_temp_user"
                    .into();
            }
            Some(Role::SrieMainUser) => {
                return "missing in raseen_main_user: only the backup in srie_main_user was found; restore it"
                    .into();
            }
            Some(Role::ExternalUsers) => return "stays in external_users".into(),
            Some(_) | None => return "no copies".into(),
        }
        if let Some(reason) = quarantined {
            return format!("quarantined and not moved until it is corrected: {reason}");
        }
        if let Some(record) = records.first() {
            if record.status == Status::Failed.as_str() {
                let error = record.error.as_deref().unwrap_or("unknown");
                return format!("stays in raseen_temp_user: the move failed permanently ({error})");
            }
            if let Some(at) = &record.next_attempt_at {
                return format!("the move failed and will be retried after {at}");
            }
        }
        let now = self.engine.clock().now();
        match due_at {
            Some(at) if at > now => format!(
                "moves to raseen_main_user and srie_main_user at {}, in {}",
                rfc3339(at),
                words(at.saturating_duration_since(now))
            ),
            Some(_) => {
                "is due: the next run moves it to raseen_main_user and srie_main_user".into()
            }
            None => "has no usable date: the next run quarantines it".into(),
        }
    }

    /// Why the document, which temp holds, is quarantined.
    async fn quarantine_of(&self, document: &RawDocumentBuf) -> Result<Option<String>, StoreError> {
        let mut marks = Marks::open(self.engine.databases.audit_db()).await?;
        marks.look(std::slice::from_ref(document)).await?;
        Ok(marks.reason(document).map(ToOwned::to_owned))
    }

    /// The latest, by version; `None` where they cannot be read.
    async fn records_of(&self, user: &UserId) -> Option<Vec<RecordView>> {
        // Before the records: an intent is removed only once its moves have records.
        let announced = intents::open(&self.engine).await.ok()?;
        let store = self.engine.databases.audit_db().store();
        let query = Query::Newest(doc! { record_field::USER_ID: user.as_str() });
        let found = store
            .find(collection::MIGRATION_RECORDS, &Find::new(query))
            .await
            .ok()?;
        let mut records: Vec<RecordView> = found
            .iter()
            .filter_map(|record| record_view(record))
            .collect();
        for intent in &announced {
            let pending = intent
                .of_user(user.as_str())
                .filter_map(|it| record_view(&it.pending(&intent.run_id, intent.begun_at)));
            for record in pending {
                if !records.iter().any(|it| it.version == record.version) {
                    records.push(record);
                }
            }
        }
        records.sort_by_key(|record| Reverse(record.version));
        Some(records)
    }
}

/// Whether several documents of other programs claim the user in one database.
fn contest(copies: &[(Role, &'static str, RawDocumentBuf)], role: Role) -> bool {
    let foreign = copies
        .iter()
        .filter(|(found, _, document)| *found == role && !document::is_native(document));
    foreign.count() > 1
}

fn after_erasure(erasure: Option<&Erasure>) -> String {
    match erasure {
        Some(erasure) if erasure.stage == Stage::Pending => {
            let pending: Vec<&str> = erasure.pending.iter().map(|role| role.name()).collect();
            format!("erased; not yet confirmed by: {}", pending.join(", "))
        }
        Some(_) | None => "erased".into(),
    }
}

fn words(duration: Duration) -> String {
    let minutes = duration.as_secs().div_ceil(60);
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

fn staged(document: &RawDocument) -> Option<DateTime> {
    document::staged_at(document).or_else(|| {
        let created = document.get(document::field::CREATED_AT).ok().flatten()?;
        adopt::date(&Bson::try_from(created).ok()?)
    })
}

fn view(database: Role, collection: &'static str, document: &RawDocumentBuf) -> Copy {
    Copy {
        database,
        collection,
        version: document::version(document).map(tierkeep_core::version::Version::get),
        staged_at: document::staged_at(document).map(rfc3339),
        updated_at: document::updated_at(document).map(rfc3339),
        size: document.as_bytes().len(),
        digest: Digest::of(document).to_string(),
        backup_status: document::backup_status(document).map(ToOwned::to_owned),
        state: document::state(document).map_or("unknown", State::as_str),
    }
}

fn erasure_view(erasure: &Erasure) -> ErasureView {
    ErasureView {
        epoch: erasure.epoch,
        stage: erasure.stage.as_str(),
        requested_at: erasure.requested_at.map(rfc3339),
        verified_at: erasure.verified_at.map(rfc3339),
        pending: erasure.pending.clone(),
    }
}

fn record_view(document: &RawDocument) -> Option<RecordView> {
    let record = Record::read(document)?;
    Some(RecordView {
        migration_id: record.id.to_hex(),
        version: record.version.get(),
        status: record.status.as_str(),
        retry_count: record.retry_count,
        migration_date: document
            .get_datetime(record_field::MIGRATION_DATE)
            .ok()
            .map(rfc3339),
        next_attempt_at: record.next_attempt_at.map(rfc3339),
        error: document.get_str(record_field::ERROR).ok().map(brief),
    })
}
