//! Which decisions are written: each user's first, and every ambiguous, changed or refused one; or all. What one address
//! causes again within a minute is counted (`counted`).
//!
//! A decision has changed when a user comes with another account than before. The process remembers the decisions that
//! it has seen for a limited number of users; for other users it asks the trail, by the id that their first decision
//! has in every process, so that two processes write it once.

use std::net::IpAddr;
use std::time::Duration;

use bson::doc;
use tierkeep_core::audit::{AuditKind, Draft, audit_field};
use tierkeep_core::bson;
use tierkeep_core::db::collection;
use tierkeep_core::identity::{AMBIGUOUS, Caller, Decision};
use tierkeep_core::route;
use tierkeep_core::store::{Find, Query, StoreError};
use tierkeep_core::user::{UserId, UserType};

use crate::audit::AuditTrail;
use crate::audit::counted::{Due, Kind, MORE_NAMES, Place, Which};
use crate::audit::spool::SpoolShare;

/// How long the trail is asked whether a decision is a user's first; one that may be is written.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
const REFUSED: &str = "refused";
const REFUSED_AS_AMBIGUOUS: &str = "refused; ambiguous";
const OTHER_ACCOUNT: &str = "a different GitHub account than before";

/// Which decisions are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AuditDecisions {
    /// Each user's first, and every ambiguous, changed or refused one.
    #[default]
    Notable,
    /// Every one.
    All,
}

/// A decision, and what is known of the request.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'a> {
    /// The decision.
    pub decision: &'a Decision,
    /// The user that the JWT names, where it is valid.
    pub actor: Option<&'a UserId>,
    /// The account that the caller proved to have, where that was asked.
    pub account: Option<&'a str>,
    /// The request.
    pub request_id: Option<&'a str>,
    /// The address that the request counts for. Without one nothing is counted, and each entry is written by itself.
    pub from: Option<IpAddr>,
}

/// A refusal, and what is known of the request.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// Why: a sentence of the program.
    pub reason: &'static str,
    /// The user that the JWT names, where it is valid.
    pub actor: Option<&'a UserId>,
    /// The request.
    pub request_id: Option<&'a str>,
    /// As in [`Decided`].
    pub from: Option<IpAddr>,
}

/// How a decision is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// The trail holds it already, or need not hold it.
    Known,
    /// As an entry.
    Entry {
        /// How many like it, of the same address, were counted since the last entry.
        more: u64,
    },
    /// In a count that is written down later.
    Counted,
}

impl AuditTrail {
    /// Writes a decision, where it is one to be written, and waits until it is kept.
    ///
    /// While `evaluation_audit` is away it is spooled. Of a user whom this process remembers nothing is written and nothing is
    /// waited for. Refusals, ambiguous decisions and names of public users are counted where one address causes many. A public
    /// user whose name was only counted must be written by [`AuditTrail::before_change`] before anything is stored for it.
    ///
    /// # Errors
    /// [`StoreError`] when it could be kept nowhere; then nothing should be done on its strength.
    pub async fn decided(&self, decided: Decided<'_>) -> Result<Kept, StoreError> {
        let refused = |decision, reason| Kind {
            decision,
            reason,
            actor: decided.actor.map(|actor| actor.as_str().to_owned()),
        };
        let (kind, draft) = match decided.decision {
            Decision::Caller(caller) if caller.ambiguous => {
                let kind = refused(AMBIGUOUS, caller.reason);
                (kind, self.taken_for(caller, decided))
            }
            Decision::Caller(caller) => {
                return match caller.user_type() {
                    UserType::Internal => self.internal(caller, decided).await,
                    UserType::External => self.named(caller, decided).await,
                };
            }
            Decision::CredentialsRequired { ambiguous, reason } => {
                let word = if *ambiguous {
                    REFUSED_AS_AMBIGUOUS
                } else {
                    REFUSED
                };
                self.refusal(refused(word, reason), decided.request_id)
            }
            Decision::IdentityUnavailable => {
                let kind = refused(REFUSED, "GitHub is unavailable");
                self.refusal(kind, decided.request_id)
            }
            Decision::InvalidUsername(_) => {
                let kind = refused(REFUSED, "the user name is invalid");
                self.refusal(kind, decided.request_id)
            }
            Decision::AmbiguousIdentity => {
                let reason = "the request names a public user and carries credentials";
                self.refusal(refused(REFUSED_AS_AMBIGUOUS, reason), decided.request_id)
            }
        };
        self.note_or_count(kind, draft, decided.from).await
    }

    /// Writes a refusal, or counts it.
    ///
    /// # Errors
    /// As [`AuditTrail::decided`].
    pub async fn refuse(&self, refused: Refused<'_>) -> Result<Kept, StoreError> {
        let kind = Kind {
            decision: REFUSED,
            reason: refused.reason,
            actor: refused.actor.map(|actor| actor.as_str().to_owned()),
        };
        let (kind, draft) = self.refusal(kind, refused.request_id);
        self.note_or_count(kind, draft, refused.from).await
    }

    /// Writes a public user's first decision where that is missing, before the user's document changes.
    ///
    /// # Errors
    /// As [`AuditTrail::decided`]; then nothing must be stored.
    pub async fn before_change(&self, decided: Decided<'_>) -> Result<(), StoreError> {
        if let Decision::Caller(caller) = decided.decision {
            let decided = Decided {
                from: None,
                ..decided
            };
            self.named(caller, decided).await?;
        }
        Ok(())
    }

    /// Writes down what was counted of addresses that are silent now. What cannot be kept stays counted.
    pub async fn note_counted(&self) {
        self.note_due(Which::Ended).await;
    }

    /// Writes down all that was counted: for a service that ends.
    pub async fn note_all_counted(&self) {
        self.note_due(Which::All).await;
    }

    async fn note_due(&self, which: Which) {
        for due in self.0.counted.take(which, self.0.clock.now()) {
            let Due { from, kind, more } = due;
            let of = if from.is_some() {
                "one address"
            } else {
                "many addresses"
            };
            let reason = format!("{}; {more} more from {of}", kind.reason);
            let (kind, draft) = self.refusal(kind, None);
            let noted = self.note(draft.because(&reason), SpoolShare::Public).await;
            if noted.is_err() {
                let now = self.0.clock.now();
                self.0.counted.put_back(from, kind, more, now);
            }
        }
    }

    /// A refusal does not depend on its entry, so one that cannot be written is counted.
    async fn note_or_count(
        &self,
        kind: Kind,
        draft: Draft,
        from: Option<IpAddr>,
    ) -> Result<Kept, StoreError> {
        let every = self.0.settings.decisions == AuditDecisions::All;
        let Some(from) = from.filter(|_| !every) else {
            self.note(draft, SpoolShare::Public).await?;
            return Ok(Kept::Entry { more: 0 });
        };
        let Place::Entry { more } = self.0.counted.place(from, &kind, self.0.clock.now()) else {
            return Ok(Kept::Counted);
        };
        let draft = if more == 0 {
            draft
        } else {
            let reason = kind.reason;
            draft.because(&format!("{reason}; {more} more from this address before"))
        };
        if self.note(draft, SpoolShare::Public).await.is_err() {
            let now = self.0.clock.now();
            self.0.counted.put_back(Some(from), kind, more + 1, now);
            return Ok(Kept::Counted);
        }
        Ok(Kept::Entry { more })
    }

    fn refusal(&self, kind: Kind, request_id: Option<&str>) -> (Kind, Draft) {
        let draft = self
            .draft(AuditKind::Decision)
            .by(kind.actor.as_deref())
            .decided(kind.decision)
            .because(kind.reason)
            .within(request_id);
        (kind, draft)
    }

    fn taken_for(&self, caller: &Caller, decided: Decided<'_>) -> Draft {
        let user_type = caller.user_type();
        let word = if caller.ambiguous {
            AMBIGUOUS
        } else {
            user_type.as_str()
        };
        self.draft(AuditKind::Decision)
            .about(Some(&caller.user))
            .by(decided.actor.map(UserId::as_str))
            .decided(word)
            .because(caller.reason)
            .within(decided.request_id)
            .in_database(Some(route::writes(user_type)))
    }

    async fn internal(&self, caller: &Caller, decided: Decided<'_>) -> Result<Kept, StoreError> {
        const SHARE: SpoolShare = SpoolShare::Reserved;
        let user = caller.user.as_str();
        let account = decided.account.map(str::to_owned);
        let draft = self.taken_for(caller, decided);
        let mut kept = Kept::Entry { more: 0 };
        match self.0.remembered.get(user).await {
            Some(before) if before == account => return self.note_if_all(draft, SHARE).await,
            Some(_) => self.note(draft.because(OTHER_ACCOUNT), SHARE).await?,
            None => {
                let first = first_of(draft.clone(), user, decided.account);
                match self.look_up(user, account.is_some(), &first.entry_id).await {
                    Seen::Same => kept = self.note_if_all(draft, SHARE).await?,
                    Seen::Other => self.note(first.because(OTHER_ACCOUNT), SHARE).await?,
                    Seen::Nothing => self.note(first, SHARE).await?,
                }
            }
        }
        let remembered = &self.0.remembered;
        remembered.insert(user.to_owned(), account).await;
        Ok(kept)
    }

    /// The decision about a public user. Any caller can name any number of them, so that names are bounded.
    async fn named(&self, caller: &Caller, decided: Decided<'_>) -> Result<Kept, StoreError> {
        const SHARE: SpoolShare = SpoolShare::Public;
        let user = caller.user.as_str();
        let draft = self.taken_for(caller, decided);
        let remembered = &self.0.remembered_public;
        if remembered.contains_key(user) {
            return self.note_if_all(draft, SHARE).await;
        }
        let every = self.0.settings.decisions == AuditDecisions::All;
        let from = decided.from.filter(|_| !every);
        let (counted, now) = (&self.0.counted, self.0.clock.now());
        if from.is_some_and(|from| !counted.has_room_for_name(from, now)) {
            return Ok(Kept::Counted);
        }
        let first = first_of(draft.clone(), user, None);
        let kept = match self.look_up(user, false, &first.entry_id).await {
            Seen::Same => self.note_if_all(draft, SHARE).await?,
            Seen::Other | Seen::Nothing => match (self.note(first, SHARE).await, from) {
                (Ok(()), from) => {
                    if let Some(from) = from {
                        counted.wrote_name(from, now);
                    }
                    Kept::Entry { more: 0 }
                }
                // Nothing is stored yet.
                (Err(_), Some(from)) => {
                    counted.put_back(Some(from), MORE_NAMES, 1, now);
                    return Ok(Kept::Counted);
                }
                (Err(error), None) => return Err(error),
            },
        };
        remembered.insert(user.to_owned(), ()).await;
        Ok(kept)
    }

    async fn note_if_all(&self, draft: Draft, share: SpoolShare) -> Result<Kept, StoreError> {
        match self.0.settings.decisions {
            AuditDecisions::Notable => Ok(Kept::Known),
            AuditDecisions::All => {
                self.note(draft, share).await?;
                Ok(Kept::Entry { more: 0 })
            }
        }
    }

    /// What the trail holds of a user; where it cannot say, nothing: writing the same once more is harmless.
    async fn look_up(&self, user: &str, has_account: bool, entry_id: &str) -> Seen {
        if self.is_spooling() {
            return Seen::Nothing;
        }
        let same = doc! { audit_field::ENTRY_ID: entry_id };
        let any = doc! {
            audit_field::USER_ID: user,
            audit_field::KIND: AuditKind::Decision.as_str(),
        };
        let look = async {
            if self.is_there(same).await? {
                return Ok(Seen::Same);
            }
            // A caller without an account does not come with a different one: the earlier decision was ambiguous.
            Ok::<_, StoreError>(if has_account && self.is_there(any).await? {
                Seen::Other
            } else {
                Seen::Nothing
            })
        };
        let seen = tokio::time::timeout(LONGEST_LOOK, look).await;
        seen.ok().and_then(Result::ok).unwrap_or(Seen::Nothing)
    }

    async fn is_there(&self, fields: bson::Document) -> Result<bool, StoreError> {
        let find = Find::new(Query::Equal(fields)).limit(1);
        let store = self.0.audit.store();
        let found = store.find(collection::AUDIT_TRAIL, &find).await?;
        Ok(!found.is_empty())
    }
}

/// What the trail holds of a user.
enum Seen {
    /// A decision with the same account.
    Same,
    /// Decisions, with another account or none.
    Other,
    /// No decision, or the trail cannot say.
    Nothing,
}

/// A user's first decision has the same id in every process.
fn first_of(mut draft: Draft, user: &str, account: Option<&str>) -> Draft {
    let parts = ["first decision", user, account.unwrap_or_default()];
    draft.entry_id = Draft::id_of(&parts);
    draft
}
