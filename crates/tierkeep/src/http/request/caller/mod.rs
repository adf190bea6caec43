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

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::identity::{Caller, Decision};
use tierkeep_core::store::StoreError;
use tierkeep_core::user::{UserId, UserType};
use tierkeep_engine::{AuditTrail, Receipt};
use tierkeep_identity::{RoleClaim, VerifiedJwt};
use tracing::{Instrument as _, debug_span};

pub(in crate::http) use self::credentials::GITHUB_TOKEN;
pub(in crate::http) use self::role::{Admin, Hr};
use crate::http::limits::bucket::Allowance;
use crate::http::limits::budget::Holder;
use crate::http::limits::concurrency::Permit;
use crate::http::request::context::RequestContext;
use crate::http::response::problem::causes::{
    CallerError, NoPermit, RateLimited, RoleError, UserReadError, WriteDenied,
};
use crate::http::state::HttpState;

/// A known caller, internal or external. As an extractor it refuses every other.
#[derive(Debug)]
pub(in crate::http) struct AuthenticatedCaller {
    caller: Caller,
    /// The JWT; without a valid one, the reason.
    jwt: Result<VerifiedJwt, &'static str>,
    context: Option<Arc<RequestContext>>,
    /// The address that the request counts for.
    from: IpAddr,
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

    /// Why the caller is taken for this user.
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
                let request_id = request_id(self.context.as_ref());
                role::require(state, &self.jwt, RoleClaim::Admin, request_id).await
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
        if let [first, ..] = credentials.usernames.as_slice() {
            let name = UserId::external(first).ok();
            counted(parts, state.traffic.public(from, name.as_ref()))?;
        }
        let detected = state.detector.detect(&credentials);
        let mut detection = detected.instrument(debug_span!("identity.detect")).await;
        if let Some(decision) = decision::otherwise_bound(state, &detection).await {
            detection.decision = decision;
        }
        state.metrics.decided(decision::label(&detection.decision));
        let subject = decision::subject(&detection);
        decision::warn_of_ambiguity(&detection, &subject);
        let context = parts.extensions.get::<Arc<RequestContext>>().cloned();
        if let Some(context) = &context {
            context.note(subject);
        }
        match &detection.decision {
            Decision::Caller(caller) if caller.user_type() == UserType::Internal => {
                counted(parts, state.traffic.internal(&caller.user))?;
            }
            Decision::CredentialsRequired { .. } => counted(parts, state.traffic.failed(from))?,
            Decision::Caller(_)
            | Decision::IdentityUnavailable
            | Decision::InvalidUsername(_)
            | Decision::AmbiguousIdentity => {}
        }
        decision::record(state, &detection, request_id(context.as_ref())).await?;
        let caller = decision::caller(detection.decision)?;
        let jwt = match detection.jwt {
            Some(jwt) => Ok(jwt),
            None => role::verified(state, &credentials),
        };
        Ok(Self {
            caller,
            jwt,
            context,
            from,
        })
    }
}

fn limited(allowance: Allowance) -> RateLimited {
    RateLimited {
        retry_after_seconds: allowance.retry_after_seconds(),
    }
}

/// Notes what the caller may still ask, and refuses one request too many.
fn counted(parts: &Parts, counted: Result<Allowance, Allowance>) -> Result<(), RateLimited> {
    let (Ok(allowance) | Err(allowance)) = counted;
    if let Some(context) = parts.extensions.get::<Arc<RequestContext>>() {
        context.allow(allowance);
    }
    counted.map(|_| ()).map_err(limited)
}

fn request_id(context: Option<&Arc<RequestContext>>) -> Option<&str> {
    context.map(|context| context.request_id_text())
}
