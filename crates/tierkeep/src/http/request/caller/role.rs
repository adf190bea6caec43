//! Callers with a role: owns the extractors of administrators and of HR, who are known by the JWT alone.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::bson::DateTime;
use tierkeep_core::db::Role;
use tierkeep_core::store::StoreError;
use tierkeep_core::user::{UserId, UserType};
use tierkeep_engine::{AuditTrail, Refused};
use tierkeep_identity::{Credentials, HeaderText, JwtRefused, JwtRequired, RoleClaim, VerifiedJwt};

use super::credentials::credentials;
use super::{counted, request_id};
use crate::http::request::context::{RequestContext, Subject};
use crate::http::response::problem::causes::{RateLimited, RoleError};
use crate::http::state::HttpState;

/// An administrator, by the JWT alone. As an extractor it refuses every other caller.
#[derive(Clone, Debug)]
pub(in crate::http) struct Admin {
    user: UserId,
    context: Option<Arc<RequestContext>>,
}

impl Admin {
    /// Records in the audit trail what the administrator is about to do.
    ///
    /// # Errors
    /// [`StoreError`] while `evaluation_audit` is away: then it must not be done.
    pub(in crate::http) async fn does(
        &self,
        audit: &AuditTrail,
        action: &str,
        about: Option<&UserId>,
        how: &str,
    ) -> Result<(), StoreError> {
        let entry = (AuditKind::AdminAction, action, how);
        self.record(audit, entry, about).await
    }

    /// As [`Admin::does`], for bringing documents back.
    ///
    /// # Errors
    /// [`StoreError`] while `evaluation_audit` is away: then nothing must be restored.
    pub(in crate::http) async fn restores(
        &self,
        audit: &AuditTrail,
        about: Option<&UserId>,
        how: &str,
    ) -> Result<(), StoreError> {
        let entry = (AuditKind::Restore, "restore", how);
        self.record(audit, entry, about).await
    }

    async fn record(
        &self,
        audit: &AuditTrail,
        (kind, action, how): (AuditKind, &str, &str),
        about: Option<&UserId>,
    ) -> Result<(), StoreError> {
        let draft = audit
            .draft(kind)
            .about(about)
            .by(Some(self.user.as_str()))
            .decided(action)
            .because(how)
            .within(request_id(self.context.as_ref()));
        audit.record(draft).await
    }

    /// The administrator who signs in with this token, and when the token expires.
    ///
    /// # Errors
    /// As of every route for administrators.
    pub(in crate::http) async fn signs_in(
        state: &HttpState,
        parts: &Parts,
        token: &str,
    ) -> Result<(Self, DateTime), RoleError> {
        let header = HeaderText::from_bytes(format!("Bearer {token}").as_bytes());
        let jwt = state.detector.role(&[header]).await;
        Self::with(state, parts, jwt).await
    }

    /// The administrator whose session this request belongs to.
    ///
    /// # Errors
    /// [`RateLimited`].
    pub(in crate::http) fn of_session(
        state: &HttpState,
        parts: &Parts,
        user: UserId,
    ) -> Result<Self, RateLimited> {
        let context = noted(parts, Some(&user));
        counted(parts, state, state.traffic.internal(&user))?;
        Ok(Self { user, context })
    }

    /// The administrator's user id.
    pub(in crate::http) fn user(&self) -> &UserId {
        &self.user
    }

    async fn with(
        state: &HttpState,
        parts: &Parts,
        jwt: Result<VerifiedJwt, JwtRequired>,
    ) -> Result<(Self, DateTime), RoleError> {
        let (jwt, context) = by_role(state, parts, jwt, RoleClaim::Admin).await?;
        let user = jwt.user;
        Ok((Self { user, context }, jwt.expires_at))
    }
}

impl FromRequestParts<HttpState> for Admin {
    type Rejection = RoleError;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, RoleError> {
        let jwt = verified(state, &credentials(&parts.headers, &parts.uri)).await;
        let (admin, _) = Self::with(state, parts, jwt).await?;
        Ok(admin)
    }
}

/// A caller with the role hr, by the JWT alone. As an extractor it refuses every other caller, administrators too.
#[derive(Clone, Debug)]
pub(in crate::http) struct Hr {
    user: UserId,
    context: Option<Arc<RequestContext>>,
}

impl Hr {
    /// Records in the audit trail what is about to be done to this HR record.
    ///
    /// # Errors
    /// [`StoreError`] while `evaluation_audit` is away: then it must not be done.
    pub(in crate::http) async fn does(
        &self,
        audit: &AuditTrail,
        action: &str,
        record: &str,
    ) -> Result<(), StoreError> {
        let draft = audit
            .draft(AuditKind::HrAction)
            .by(Some(self.user.as_str()))
            .decided(action)
            .because(record)
            .within(request_id(self.context.as_ref()))
            .in_database(Some(Role::RaseenMainHr));
        audit.record(draft).await
    }
}

impl FromRequestParts<HttpState> for Hr {
    type Rejection = RoleError;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, RoleError> {
        let jwt = verified(state, &credentials(&parts.headers, &parts.uri)).await;
        let (jwt, context) = by_role(state, parts, jwt, RoleClaim::Hr).await?;
        let user = jwt.user;
        Ok(Self { user, context })
    }
}

/// The JWT of these credentials; without a valid one, the reason.
pub(super) async fn verified(
    state: &HttpState,
    credentials: &Credentials,
) -> Result<VerifiedJwt, JwtRequired> {
    state.detector.role(&credentials.authorization).await
}

/// The caller by the JWT alone, which must have this role.
async fn by_role(
    state: &HttpState,
    parts: &Parts,
    jwt: Result<VerifiedJwt, JwtRequired>,
    required: RoleClaim,
) -> Result<(VerifiedJwt, Option<Arc<RequestContext>>), RoleError> {
    let context = noted(parts, jwt.as_ref().ok().map(|jwt| &jwt.user));
    let from = state.traffic.address(&parts.extensions, &parts.headers);
    let count = match &jwt {
        Ok(jwt) => state.traffic.internal(&jwt.user),
        Err(_) => state.traffic.failed(from),
    };
    counted(parts, state, count)?;
    require(state, &jwt, required, (from, context.as_ref())).await?;
    let jwt = jwt.map_err(|why| RoleError::JwtRequired(why.reason(), required))?;
    Ok((jwt, context))
}

/// Refuses a JWT without this role, and records the refusal in the audit trail.
///
/// # Errors
/// [`RoleError::JwtRequired`] (401) without a valid JWT, [`RoleError::RoleRequired`] (403) with another role,
/// [`RoleError::KeysUnavailable`] (503) while the keys that would tell are not known.
pub(super) async fn require(
    state: &HttpState,
    jwt: &Result<VerifiedJwt, JwtRequired>,
    required: RoleClaim,
    (from, context): (IpAddr, Option<&Arc<RequestContext>>),
) -> Result<(), RoleError> {
    let role = jwt.as_ref().map(|jwt| jwt.role);
    let (refusal, reason) = match role {
        Ok(Some(role)) if role == required => return Ok(()),
        Ok(Some(_) | None) => (
            RoleError::RoleRequired(required),
            match required {
                RoleClaim::Admin => "the role admin is required",
                RoleClaim::Hr => "the role hr is required",
            },
        ),
        Err(JwtRequired::Refused(JwtRefused::NoKeysYet)) => return Err(RoleError::KeysUnavailable),
        Err(why) => (RoleError::JwtRequired(why.reason(), required), why.reason()),
    };
    let actor = jwt.as_ref().ok().map(|jwt| &jwt.user);
    let _permit = match actor {
        Some(_) => None,
        None => Some(state.traffic.permit().await?),
    };
    let refused = Refused {
        reason,
        actor,
        request_id: request_id(context),
        from: Some(from),
    };
    super::refused(context, state.audit.refuse(refused).await?);
    Err(refusal)
}

/// Notes the subject of a request for which the JWT alone counts.
fn noted(parts: &Parts, user: Option<&UserId>) -> Option<Arc<RequestContext>> {
    let context = parts.extensions.get::<Arc<RequestContext>>().cloned();
    if let Some(context) = &context {
        context.note(Subject {
            user_type: UserType::Internal,
            user: user.cloned(),
            ambiguous: false,
        });
    }
    context
}
