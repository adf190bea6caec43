//! Which decisions are written: each user's first, and every ambiguous, changed or refused one; or all.
//!
//! A decision has changed when a user comes with another account than before. What this process has seen is
//! remembered for so many users; of others the trail is asked, by the id that their first decision has in every
//! process, so that two of them write it once.

use std::time::Duration;

use bson::doc;
use tierkeep_core::audit::{AuditKind, Draft, audit_field};
use tierkeep_core::bson;
use tierkeep_core::db::collection;
use tierkeep_core::identity::{AMBIGUOUS, Caller, Decision};
use tierkeep_core::route;
use tierkeep_core::store::{Find, Query, StoreError};
use tierkeep_core::user::UserId;

use crate::audit::AuditTrail;

/// How long the trail is asked whether a decision is a user's first; one that may be is written.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
const REFUSED: &str = "refused";
const REFUSED_AS_AMBIGUOUS: &str = "refused; ambiguous";
const OTHER_ACCOUNT: &str = "another GitHub account than before";

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
    /// Whom the JWT names, where it is valid.
    pub actor: Option<&'a UserId>,
    /// The account that the caller proved to have, where that was asked.
    pub account: Option<&'a str>,
    /// The request.
    pub request_id: Option<&'a str>,
}

impl AuditTrail {
    /// Writes a decision, where it is one to be written, and waits until it is kept.
    ///
    /// While `evaluation_audit` is away it is spooled. Of a user whom this process remembers nothing is written
    /// and nothing is waited for.
    ///
    /// # Errors
    /// [`StoreError`] when it could be kept nowhere; then nothing should be done on its strength.
    pub async fn decided(&self, decided: Decided<'_>) -> Result<(), StoreError> {
        match decided.decision {
            Decision::Caller(caller) if caller.ambiguous => {
                self.note(self.taken_for(caller, decided)).await
            }
            Decision::Caller(caller) => self.known(caller, decided).await,
            Decision::CredentialsRequired { ambiguous, reason } => {
                let word = if *ambiguous {
                    REFUSED_AS_AMBIGUOUS
                } else {
                    REFUSED
                };
                let refusal = self.refusal(reason, decided.actor, decided.request_id);
                self.note(refusal.decided(word)).await
            }
            Decision::IdentityUnavailable => {
                let reason = "GitHub could not be asked";
                self.refuse(reason, decided.actor, decided.request_id).await
            }
            Decision::InvalidUsername(_) => {
                let reason = "the user name is invalid";
                self.refuse(reason, decided.actor, decided.request_id).await
            }
            Decision::AmbiguousIdentity => {
                let reason = "a public user was named and credentials came along";
                let refusal = self.refusal(reason, decided.actor, decided.request_id);
                self.note(refusal.decided(REFUSED_AS_AMBIGUOUS)).await
            }
        }
    }

    /// Writes that somebody was refused, and waits until it is kept. The reason must be one of ours.
    ///
    /// # Errors
    /// As [`AuditTrail::decided`].
    pub async fn refuse(
        &self,
        reason: &str,
        actor: Option<&UserId>,
        request_id: Option<&str>,
    ) -> Result<(), StoreError> {
        self.note(self.refusal(reason, actor, request_id)).await
    }

    fn refusal(&self, reason: &str, actor: Option<&UserId>, request_id: Option<&str>) -> Draft {
        self.draft(AuditKind::Decision)
            .by(actor.map(UserId::as_str))
            .decided(REFUSED)
            .because(reason)
            .within(request_id)
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

    async fn known(&self, caller: &Caller, decided: Decided<'_>) -> Result<(), StoreError> {
        let user = caller.user.as_str();
        let account = decided.account.map(str::to_owned);
        let draft = self.taken_for(caller, decided);
        match self.0.remembered.get(user).await {
            Some(before) if before == account => return self.note_if_all(draft).await,
            Some(_) => self.note(draft.because(OTHER_ACCOUNT)).await?,
            None => {
                let mut first = draft.clone();
                let parts = ["first decision", user, decided.account.unwrap_or_default()];
                first.entry_id = Draft::id_of(&parts);
                match self.look_up(user, account.is_some(), &first.entry_id).await {
                    Seen::Same => self.note_if_all(draft).await?,
                    Seen::Other => self.note(first.because(OTHER_ACCOUNT)).await?,
                    Seen::Nothing => self.note(first).await?,
                }
            }
        }
        let remembered = &self.0.remembered;
        remembered.insert(user.to_owned(), account).await;
        Ok(())
    }

    async fn note_if_all(&self, draft: Draft) -> Result<(), StoreError> {
        match self.0.settings.decisions {
            AuditDecisions::Notable => Ok(()),
            AuditDecisions::All => self.note(draft).await,
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
            // Whoever comes without an account comes with no other one; what was decided before was ambiguous.
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
