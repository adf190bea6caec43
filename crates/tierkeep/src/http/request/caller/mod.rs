//! The caller: owns the extractors that say who sent a request, and what a caller may do.
//!
//! Must never decide the user type by itself: that is the User Type Detector's.
//!
//! Where to look: `credentials` (what the detector gets), `decision` (what becomes of its decision), `role` (administrators and
//! HR, by the JWT alone).

mod credentials;
mod decision;
mod role;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::identity::{Caller, Decision};
use tierkeep_core::store::StoreError;
use tierkeep_core::user::{UserId, UserType};
use tierkeep_engine::{AuditTrail, Decided, Kept, Receipt};
use tierkeep_identity::{GithubWait, JwtRequired, RoleClaim, VerifiedJwt};
use tracing::{Instrument as _, debug_span};

pub(in crate::http) use self::credentials::GITHUB_TOKEN;
pub(in crate::http) use self::role::{Admin, Hr};
use crate::http::limits::bucket::Allowance;
use crate::http::limits::budget::Holder;
use crate::http::limits::concurrency::Permit;
use crate::http::request::context::{RequestContext, Subject};
use crate::http::response::problem::causes::{
    CallerError, NoPermit, RateLimited, RoleError, UserReadError, WriteDenied,
};
use crate::http::state::HttpState;

/// A known caller, internal or external. As an extractor it refuses every other.
#[derive(Debug)]
pub(in crate::http) struct AuthenticatedCaller {
    caller: Caller,
    /// The JWT; without a valid one, the reason.
    jwt: Result<VerifiedJwt, JwtRequired>,
    context: Option<Arc<RequestContext>>,
    /// The address that the request counts for.
    from: IpAddr,
    /// Whether the audit trail holds the decision, and not only a count of such.
    is_recorded: bool,
}

impl AuthenticatedCaller {
    /// The user.
    pub(in crate::http) fn user(&self) -> &UserId {
        &self.caller.user
    }

    /// Internal or external.
    pub(in crate::http) fn user_type(&self) -> UserType {
        self.caller.user_type()
    }

    /// On whose behalf the request holds memory.
    pub(in crate::http) fn holder(&self, state: &HttpState) -> Holder {
        state.traffic.holder(self.user_type(), self.from)
    }

    /// The reason for the decision.
    pub(in crate::http) fn reason(&self) -> &'static str {
        self.caller.reason
    }

    /// Requires the right to remove this user's data: internal users may remove their own; a public user, whom any caller can
    /// name, is removed by an administrator.
    ///
    /// # Errors
    /// [`RoleError`].
    pub(in crate::http) async fn may_remove(&self, state: &HttpState) -> Result<(), RoleError> {
        match self.user_type() {
            UserType::Internal => Ok(()),
            UserType::External => {
                let request = (self.from, self.context.as_ref());
                role::require(state, &self.jwt, RoleClaim::Admin, request).await
            }
        }
    }

    /// Refuses writes of external users where they may only read, and new external users where their address has created too
    /// many.
    ///
    /// # Errors
    /// [`WriteDenied`].
    pub(in crate::http) async fn may_write(&self, state: &HttpState) -> Result<(), WriteDenied> {
        if self.user_type() == UserType::Internal {
            return Ok(());
        }
        if !state.traffic.public_writes() {
            return Err(WriteDenied::PublicWritesOff);
        }
        let Some(full) = state.traffic.is_full(self.from) else {
            return Ok(());
        };
        let _permit = self.permit(state).await?;
        let found = state.users.read(self.user()).await;
        match found.map_err(UserReadError::from)? {
            Some(_) => Ok(()),
            None => Err(limited(full).into()),
        }
    }

    /// Whether the decision has an entry of its own in the trail.
    pub(in crate::http) fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// Records the decision by itself, where it was only counted: what is stored for a public user follows from an entry. To be
    /// called when nothing but the change is left to be done.
    ///
    /// # Errors
    /// [`WriteDenied::Read`] where `evaluation_audit` and the spool take no more.
    pub(in crate::http) async fn before_change(
        &self,
        state: &HttpState,
    ) -> Result<(), WriteDenied> {
        if self.is_recorded {
            return Ok(());
        }
        let decision = Decision::Caller(self.caller.clone());
        let decided = Decided {
            decision: &decision,
            actor: self.jwt.as_ref().ok().map(|jwt| &jwt.user),
            account: None,
            request_id: request_id(self.context.as_ref()),
            from: None,
        };
        let recorded = state.audit.before_change(decided).await;
        recorded.map_err(|error| UserReadError::Unavailable(error).into())
    }

    /// Acquires the permit that an external user's request needs to use the databases; internal users need none. To be acquired
    /// after the body was received, so that a slow sender does not hold one.
    ///
    /// # Errors
    /// [`NoPermit`].
    pub(in crate::http) async fn permit(
        &self,
        state: &HttpState,
    ) -> Result<Option<Permit>, NoPermit> {
        match self.user_type() {
            UserType::Internal => Ok(None),
            UserType::External => Ok(Some(state.traffic.permit().await?)),
        }
    }

    /// Counts a new public user for the address that created it.
    pub(in crate::http) fn wrote(&self, state: &HttpState, receipt: &Receipt) {
        if receipt.created && self.user_type() == UserType::External {
            state.traffic.made(self.from);
        }
    }

    /// Records in the audit trail that the user is about to be erased.
    ///
    /// # Errors
    /// [`StoreError`] while `evaluation_audit` is away: then nothing must be erased.
    pub(in crate::http) async fn erases(&self, audit: &AuditTrail) -> Result<(), StoreError> {
        let draft = audit
            .draft(AuditKind::Erasure)
            .about(Some(self.user()))
            .by(self.jwt.as_ref().ok().map(|jwt| jwt.user.as_str()))
            .decided("erase")
            .within(request_id(self.context.as_ref()));
        audit.record(draft).await
    }
}

impl FromRequestParts<HttpState> for AuthenticatedCaller {
    type Rejection = CallerError;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, CallerError> {
        let credentials = credentials::credentials(&parts.headers, &parts.uri);
        let from = state.traffic.address(&parts.extensions, &parts.headers);
        if !credentials.usernames.is_empty() {
            counted(parts, state, state.traffic.public(from))?;
        }
        let limit = state.traffic.github(from);
        let detected = state.detector.detect_within(&credentials, &limit);
        let mut detection = detected.instrument(debug_span!("identity.detect")).await;
        let context = parts.extensions.get::<Arc<RequestContext>>().cloned();
        if let Some(GithubWait::Caller(wait)) = detection.github_wait {
            note(context.as_ref(), decision::subject(&detection));
            if let Some(refused) = limit.refused() {
                counted(parts, state, Err(refused))?;
            }
            return Err(over_limit(wait).into());
        }
        if let Some(decision) = decision::otherwise_bound(state, &detection).await {
            detection.decision = decision;
        }
        state.metrics.decided(decision::label(&detection.decision));
        note(context.as_ref(), decision::subject(&detection));
        match &detection.decision {
            Decision::Caller(caller) if caller.user_type() == UserType::Internal => {
                counted(parts, state, state.traffic.internal(&caller.user))?;
            }
            Decision::CredentialsRequired { .. } => {
                counted(parts, state, state.traffic.failed(from))?;
            }
            Decision::Caller(_)
            | Decision::IdentityUnavailable
            | Decision::InvalidUsername(_)
            | Decision::AmbiguousIdentity => {}
        }
        let request = (from, request_id(context.as_ref()));
        let kept = decision::record(state, &detection, request).await?;
        decision::warn_of_ambiguity(&detection, kept);
        let wait = match detection.github_wait {
            Some(GithubWait::Github(wait)) => Some(wait),
            Some(GithubWait::Caller(_)) | None => None,
        };
        let caller = decision::caller(detection.decision, wait);
        let caller = caller.inspect_err(|_| refused(context.as_ref(), kept))?;
        let jwt = match detection.jwt {
            Some(jwt) => Ok(jwt),
            None => role::verified(state, &credentials).await,
        };
        Ok(Self {
            caller,
            jwt,
            context,
            from,
            is_recorded: kept != Kept::Counted,
        })
    }
}

fn note(context: Option<&Arc<RequestContext>>, subject: Subject) {
    if let Some(context) = context {
        context.note(subject);
    }
}

/// Notes how a refusal is kept: one that was counted has no line of its own.
fn refused(context: Option<&Arc<RequestContext>>, kept: Kept) {
    if let Some(context) = context.filter(|_| kept == Kept::Counted) {
        context.repeats();
    }
}

fn over_limit(wait: Duration) -> RateLimited {
    RateLimited {
        retry_after_seconds: seconds(wait),
    }
}

/// Whole seconds, rounded up, at least one.
fn seconds(wait: Duration) -> u64 {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    whole.max(1)
}

fn limited(allowance: Allowance) -> RateLimited {
    RateLimited {
        retry_after_seconds: allowance.retry_after_seconds(),
    }
}

/// Notes what the caller may still ask, and refuses one request too many.
fn counted(
    parts: &Parts,
    state: &HttpState,
    counted: Result<Allowance, Allowance>,
) -> Result<(), RateLimited> {
    let (Ok(allowance) | Err(allowance)) = counted;
    if let Some(context) = parts.extensions.get::<Arc<RequestContext>>() {
        context.allow(allowance);
        if counted.is_err() && !state.traffic.tells(&allowance) {
            context.repeats();
        }
    }
    counted.map(|_| ()).map_err(limited)
}

fn request_id(context: Option<&Arc<RequestContext>>) -> Option<&str> {
    context.map(|context| context.request_id_text())
}
