//! The detector's decision: owns its record in the audit trail, its warnings, and the refusal that it can be.

use std::net::IpAddr;
use std::time::Duration;

use tierkeep_core::identity::{Caller, Decision};
use tierkeep_core::user::{UserId, UserType};
use tierkeep_engine::{BindingCheck, Decided, Kept, OnChange};
use tierkeep_identity::Detection;
use tracing::warn;

use crate::http::request::context::Subject;
use crate::http::response::problem::causes::CallerError;
use crate::http::state::HttpState;

/// The label of a decision in metrics.
pub(super) fn label(decision: &Decision) -> &'static str {
    match decision {
        Decision::Caller(caller) if caller.ambiguous => "ambiguous",
        Decision::Caller(caller) => caller.user_type().as_str(),
        Decision::CredentialsRequired { .. } => "credentials_required",
        Decision::IdentityUnavailable => "identity_unavailable",
        Decision::InvalidUsername(_) => "invalid_username",
        Decision::AmbiguousIdentity => "ambiguous_identity",
    }
}

/// Why a caller with another account than the bound one is refused.
const OTHER_ACCOUNT: &str = "the GitHub token belongs to a different account than before";

/// The decision that replaces this one where an internal user arrives with another GitHub account than the bound one.
///
/// A `github_id` in the JWT outranks the binding: who signs it says which account it is. Where the binding is not known, the
/// user is served, and the comparison is made when `evaluation_audit` is back.
pub(super) async fn otherwise_bound(state: &HttpState, detection: &Detection) -> Option<Decision> {
    let (Decision::Caller(caller), Some(owner)) = (&detection.decision, &detection.github_owner)
    else {
        return None;
    };
    if detection.jwt.as_ref()?.github_id.is_some() {
        return None;
    }
    let user_type = caller.user_type().as_str();
    // The bindings say what could not be compared.
    let check = state.bindings.check(&caller.user, owner.id).await.ok()?;
    match (check, state.bindings.on_change()) {
        (BindingCheck::Same, _) => None,
        (BindingCheck::Other, OnChange::Follow) => {
            warn!(
                user_id = caller.user.as_str(),
                user_type, "the user's GitHub account has changed",
            );
            None
        }
        (BindingCheck::Other, OnChange::Refuse) => Some(Decision::CredentialsRequired {
            ambiguous: true,
            reason: OTHER_ACCOUNT,
        }),
    }
}

/// Records the decision in the audit trail, before anything is done on the strength of it.
///
/// # Errors
/// [`CallerError::NoPermit`] and [`CallerError::Audit`].
pub(super) async fn record(
    state: &HttpState,
    detection: &Detection,
    (from, request_id): (IpAddr, Option<&str>),
) -> Result<Kept, CallerError> {
    let account = detection.github_owner.as_ref();
    let account = account.map(|owner| owner.id.to_string());
    // A caller with a valid JWT who names no public user needs no permit.
    let _permit = match &detection.decision {
        Decision::Caller(caller) if caller.user_type() == UserType::Internal => None,
        Decision::IdentityUnavailable => None,
        Decision::Caller(_)
        | Decision::CredentialsRequired { .. }
        | Decision::InvalidUsername(_)
        | Decision::AmbiguousIdentity => Some(state.traffic.permit().await?),
    };
    let decided = Decided {
        decision: &detection.decision,
        actor: detection.jwt.as_ref().map(|jwt| &jwt.user),
        account: account.as_deref(),
        request_id,
        from: Some(from),
    };
    Ok(state.audit.decided(decided).await?)
}

/// The caller, or the refusal that the decision is; `wait` is how long GitHub asked to be left alone.
pub(super) fn caller(decision: Decision, wait: Option<Duration>) -> Result<Caller, CallerError> {
    match decision {
        Decision::Caller(caller) => Ok(caller),
        Decision::CredentialsRequired { reason, .. } => {
            Err(CallerError::CredentialsRequired(reason))
        }
        Decision::IdentityUnavailable => Err(CallerError::IdentityUnavailable {
            retry_after_seconds: wait.map(super::seconds),
        }),
        Decision::InvalidUsername(why) => Err(CallerError::InvalidUsername(why)),
        Decision::AmbiguousIdentity => Err(CallerError::AmbiguousIdentity),
    }
}

/// The subject of the request, for its headers and its log line.
pub(super) fn subject(detection: &Detection) -> Subject {
    let unknown = |user_type, ambiguous| Subject {
        user_type,
        user: None,
        ambiguous,
    };
    match &detection.decision {
        Decision::Caller(caller) => Subject {
            user_type: caller.user_type(),
            user: Some(caller.user.clone()),
            ambiguous: caller.ambiguous,
        },
        Decision::CredentialsRequired { ambiguous, .. } => unknown(UserType::External, *ambiguous),
        Decision::AmbiguousIdentity => unknown(UserType::External, true),
        Decision::InvalidUsername(_) => unknown(UserType::External, false),
        // The JWT is valid, so this is not a public user.
        Decision::IdentityUnavailable => unknown(UserType::Internal, false),
    }
}

/// Logs an ambiguous identity, where it is kept as an entry: that one speaks for those that are counted.
pub(super) fn warn_of_ambiguity(detection: &Detection, kept: Kept) {
    let Kept::Entry { more } = kept else {
        return;
    };
    let subject = subject(detection);
    if !subject.ambiguous {
        return;
    }
    let reason = match &detection.decision {
        Decision::Caller(caller) => caller.reason,
        Decision::CredentialsRequired { reason, .. } => reason,
        Decision::AmbiguousIdentity => "the request names a public user and carries credentials",
        Decision::InvalidUsername(_) | Decision::IdentityUnavailable => return,
    };
    warn!(
        user_id = subject.user.as_ref().map(UserId::as_str),
        user_type = subject.user_type.as_str(),
        reason,
        more,
        "the caller's identity is ambiguous",
    );
}
