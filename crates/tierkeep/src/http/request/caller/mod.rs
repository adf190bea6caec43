//! Who is caller: owns which parts of a request are handed to the User Type Detector, and what becomes
//! of its decision.
//!
//! Must never decide by itself, or look at anything but the two credential headers and `username`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Query};
use axum::http::header::{AUTHORIZATION, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use tierkeep_core::audit::Kind;
use tierkeep_core::bson::DateTime;
use tierkeep_core::db::Role;
use tierkeep_core::identity::{Caller, Decision};
use tierkeep_core::user::{UserId, UserType};
use tierkeep_engine::{AuditTrail, Decided, Met, OnChange, Receipt};
use tierkeep_identity::{Credentials, Detection, HeaderText, JwtRequired, RoleClaim, VerifiedJwt};
use tracing::{Instrument as _, debug_span, warn};

use crate::http::limits::concurrency::Permit;
use crate::http::limits::traffic::Allowance;
use crate::http::request::context::{RequestContext, Subject};
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

/// Carries the GitHub token.
pub(in crate::http) const GITHUB_TOKEN: HeaderName = HeaderName::from_static("x-github-token");
const USERNAME: &str = "username";

/// A caller who is known. As an extractor it refuses everybody else.
#[derive(Debug)]
pub(in crate::http) struct AuthenticatedCaller {
    caller: Caller,
    /// The role of the JWT; why there is no valid one.
    jwt: Result<VerifiedJwt, &'static str>,
    context: Option<Arc<RequestContext>>,
    /// For whose address the request counts.
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

    /// Why the caller is taken for this user.
    pub(in crate::http) fn reason(&self) -> &'static str {
        self.caller.reason
    }

    /// Refuses whoever may not remove this user's data: everybody may remove their own, but anybody can
    /// name a public user, so that takes an admin.
    ///
    /// # Errors
    /// [`Problem::JwtRequired`] without a valid JWT; [`Problem::RoleRequired`].
    pub(in crate::http) async fn may_remove(&self, state: &HttpState) -> Result<(), Problem> {
        match self.user_type() {
            UserType::Internal => Ok(()),
            UserType::External => {
                let request_id = request_id(self.context.as_ref());
                has_role(state, &self.jwt, RoleClaim::Admin, request_id).await
            }
        }
    }

    /// Refuses writes of external users where they may only read, and new ones where there were too many.
    ///
    /// # Errors
    /// [`Problem::PublicWritesOff`], [`Problem::RateLimited`]; errors of a read.
    pub(in crate::http) async fn may_write(&self, state: &HttpState) -> Result<(), Problem> {
        if self.user_type() == UserType::Internal {
            return Ok(());
        }
        if !state.traffic.public_writes() {
            return Err(Problem::PublicWritesOff);
        }
        let Some(full) = state.traffic.is_full(self.from) else {
            return Ok(());
        };
        let _permit = self.permit(state).await?;
        match state.users.read(self.user()).await? {
            Some(_) => Ok(()),
            None => Err(limited(full)),
        }
    }

    /// Waits until this request may work in the databases, which it may as long as the turn is held. Internal
    /// users need none. To be taken after the body was received: a slow caller keeps nobody waiting.
    ///
    /// # Errors
    /// [`Problem::Busy`] or [`Problem::Stalled`].
    pub(in crate::http) async fn permit(
        &self,
        state: &HttpState,
    ) -> Result<Option<Permit>, Problem> {
        match self.user_type() {
            UserType::Internal => Ok(None),
            UserType::External => Ok(Some(state.traffic.permit().await?)),
        }
    }

    /// Notes what a write did: who made a public user has one fewer to make.
    pub(in crate::http) fn wrote(&self, state: &HttpState, receipt: &Receipt) {
        if receipt.created && self.user_type() == UserType::External {
            state.traffic.made(self.from);
        }
    }
}

fn limited(allowance: Allowance) -> Problem {
    Problem::RateLimited {
        retry_after_seconds: allowance.retry_after_seconds(),
    }
}

/// Notes what the caller may still ask, and refuses one request too many.
fn counted(parts: &Parts, counted: Result<Allowance, Allowance>) -> Result<(), Problem> {
    let (Ok(allowance) | Err(allowance)) = counted;
    if let Some(context) = parts.extensions.get::<Arc<RequestContext>>() {
        context.allow(allowance);
    }
    counted.map(|_| ()).map_err(limited)
}

impl AuthenticatedCaller {
    /// Writes into the audit trail that the user is about to be erased; that must not be done without it.
    ///
    /// # Errors
    /// [`Problem`] while `evaluation_audit` is away: nothing may be erased.
    pub(in crate::http) async fn erases(&self, audit: &AuditTrail) -> Result<(), Problem> {
        let draft = audit
            .draft(Kind::Erasure)
            .about(Some(self.user()))
            .by(self.jwt.as_ref().ok().map(|jwt| jwt.user.as_str()))
            .decided("erase")
            .within(request_id(self.context.as_ref()));
        Ok(audit.record(draft).await?)
    }
}

impl FromRequestParts<HttpState> for AuthenticatedCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Problem> {
        let credentials = credentials(&parts.headers, &parts.uri);
        let from = state.traffic.address(&parts.extensions, &parts.headers);
        if let [first, ..] = credentials.usernames.as_slice() {
            let name = UserId::external(first).ok();
            counted(parts, state.traffic.public(from, name.as_ref()))?;
        }
        let detected = state.detector.detect(&credentials);
        let mut detection = detected.instrument(debug_span!("identity.detect")).await;
        if let Some(decision) = otherwise_bound(state, &detection).await {
            detection.decision = decision;
        }
        state.metrics.decided(word(&detection.decision));
        let subject = subject(&detection);
        if subject.ambiguous {
            warn_of(&detection, &subject);
        }
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
        keep(state, &detection, request_id(context.as_ref())).await?;
        let caller = known(detection.decision)?;
        let jwt = match detection.jwt {
            Some(jwt) => Ok(jwt),
            None => role(state, &credentials),
        };
        Ok(Self {
            caller,
            jwt,
            context,
            from,
        })
    }
}

/// A decision as metrics count it.
fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Caller(caller) if caller.ambiguous => "ambiguous",
        Decision::Caller(caller) => caller.user_type().as_str(),
        Decision::CredentialsRequired { .. } => "credentials_required",
        Decision::IdentityUnavailable => "identity_unavailable",
        Decision::InvalidUsername(_) => "invalid_username",
        Decision::AmbiguousIdentity => "ambiguous_identity",
    }
}

/// What is decided instead where an internal user arrives with another GitHub account than before.
async fn otherwise_bound(state: &HttpState, detection: &Detection) -> Option<Decision> {
    let (Decision::Caller(caller), Some(owner)) = (&detection.decision, &detection.github_owner)
    else {
        return None;
    };
    let refuses = match state.bindings.on_change() {
        OnChange::Refuse => true,
        OnChange::Follow => false,
    };
    let user_type = caller.user_type().as_str();
    match state.bindings.meet(&caller.user, owner.id).await {
        Ok(Met::Same) => None,
        Ok(Met::Other) => {
            warn!(
                user_id = caller.user.as_str(),
                user_type, "the user arrives with another GitHub account than before",
            );
            refuses.then_some(Decision::CredentialsRequired {
                ambiguous: true,
                reason: "the GitHub token belongs to another account than before",
            })
        }
        Err(error) => {
            warn!(
                user_id = caller.user.as_str(),
                user_type,
                database = %error.database,
                error = error.class.as_str(),
                "the user's GitHub account was not compared with the one of before",
            );
            refuses.then_some(Decision::IdentityUnavailable)
        }
    }
}

/// An administrator, by the JWT alone. As an extractor it refuses everybody else.
#[derive(Clone, Debug)]
pub(in crate::http) struct Admin {
    user: UserId,
    context: Option<Arc<RequestContext>>,
}

impl Admin {
    /// Writes into the audit trail what the administrator is about to do; it must not be done without it.
    ///
    /// # Errors
    /// [`Problem`] while `evaluation_audit` is away: nothing may be done.
    pub(in crate::http) async fn does(
        &self,
        audit: &AuditTrail,
        action: &str,
        whom: Option<&UserId>,
        how: &str,
    ) -> Result<(), Problem> {
        self.acts(audit, Kind::AdminAction, action, whom, how).await
    }

    /// As [`Admin::does`], for bringing documents back.
    ///
    /// # Errors
    /// [`Problem`] while `evaluation_audit` is away: nothing may be done.
    pub(in crate::http) async fn restores(
        &self,
        audit: &AuditTrail,
        whom: Option<&UserId>,
    ) -> Result<(), Problem> {
        let (kind, how) = (Kind::Restore, "over HTTP");
        self.acts(audit, kind, "restore", whom, how).await
    }

    async fn acts(
        &self,
        audit: &AuditTrail,
        kind: Kind,
        action: &str,
        whom: Option<&UserId>,
        how: &str,
    ) -> Result<(), Problem> {
        let draft = audit
            .draft(kind)
            .about(whom)
            .by(Some(self.user.as_str()))
            .decided(action)
            .because(how)
            .within(request_id(self.context.as_ref()));
        Ok(audit.record(draft).await?)
    }

    /// The administrator who signs in with this token, and until when it is believed.
    ///
    /// # Errors
    /// As of every route for administrators.
    pub(in crate::http) async fn signs_in(
        state: &HttpState,
        parts: &Parts,
        token: &str,
    ) -> Result<(Self, DateTime), Problem> {
        let header = HeaderText::from_bytes(format!("Bearer {token}").as_bytes());
        let jwt = state.detector.role(&[header]);
        Self::with(state, parts, jwt.map_err(JwtRequired::reason)).await
    }

    /// The administrator whose session this request belongs to.
    ///
    /// # Errors
    /// [`Problem::RateLimited`].
    pub(in crate::http) fn of_session(
        state: &HttpState,
        parts: &Parts,
        user: UserId,
    ) -> Result<Self, Problem> {
        let context = met(parts, Some(&user));
        counted(parts, state.traffic.internal(&user))?;
        Ok(Self { user, context })
    }

    /// Who this is.
    pub(in crate::http) fn user(&self) -> &UserId {
        &self.user
    }

    async fn with(
        state: &HttpState,
        parts: &Parts,
        jwt: Result<VerifiedJwt, &'static str>,
    ) -> Result<(Self, DateTime), Problem> {
        let (jwt, context) = by_role(state, parts, jwt, RoleClaim::Admin).await?;
        let user = jwt.user;
        Ok((Self { user, context }, jwt.expires_at))
    }
}

/// Notes somebody who has a role, or would have one.
fn met(parts: &Parts, user: Option<&UserId>) -> Option<Arc<RequestContext>> {
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

impl FromRequestParts<HttpState> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Problem> {
        let jwt = role(state, &credentials(&parts.headers, &parts.uri));
        let (admin, _) = Self::with(state, parts, jwt).await?;
        Ok(admin)
    }
}

/// Somebody with the role hr, by the JWT alone. As an extractor it refuses everybody else, administrators too.
#[derive(Clone, Debug)]
pub(in crate::http) struct Hr {
    user: UserId,
    context: Option<Arc<RequestContext>>,
}

impl Hr {
    /// Writes into the audit trail what is about to be done to this HR record; it must not be done without it.
    ///
    /// # Errors
    /// [`Problem`] while `evaluation_audit` is away: nothing may be done.
    pub(in crate::http) async fn does(
        &self,
        audit: &AuditTrail,
        action: &str,
        record: &str,
    ) -> Result<(), Problem> {
        let draft = audit
            .draft(Kind::HrAction)
            .by(Some(self.user.as_str()))
            .decided(action)
            .because(record)
            .within(request_id(self.context.as_ref()))
            .in_database(Some(Role::RaseenMainHr));
        Ok(audit.record(draft).await?)
    }
}

impl FromRequestParts<HttpState> for Hr {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Problem> {
        let jwt = role(state, &credentials(&parts.headers, &parts.uri));
        let (jwt, context) = by_role(state, parts, jwt, RoleClaim::Hr).await?;
        let user = jwt.user;
        Ok(Self { user, context })
    }
}

/// Who is caller, by the JWT alone, which must have this role.
async fn by_role(
    state: &HttpState,
    parts: &Parts,
    jwt: Result<VerifiedJwt, &'static str>,
    wanted: RoleClaim,
) -> Result<(VerifiedJwt, Option<Arc<RequestContext>>), Problem> {
    let context = met(parts, jwt.as_ref().ok().map(|jwt| &jwt.user));
    let from = state.traffic.address(&parts.extensions, &parts.headers);
    let count = match &jwt {
        Ok(jwt) => state.traffic.internal(&jwt.user),
        Err(_) => state.traffic.failed(from),
    };
    counted(parts, count)?;
    has_role(state, &jwt, wanted, request_id(context.as_ref())).await?;
    let jwt = jwt.map_err(|why| Problem::JwtRequired(why, wanted))?;
    Ok((jwt, context))
}

fn request_id(context: Option<&Arc<RequestContext>>) -> Option<&str> {
    context.map(|context| context.request_id_text())
}

fn role(state: &HttpState, credentials: &Credentials) -> Result<VerifiedJwt, &'static str> {
    let verified = state.detector.role(&credentials.authorization);
    verified.map_err(JwtRequired::reason)
}

/// 401 without a valid JWT, 403 with another role; either is kept in the audit trail.
async fn has_role(
    state: &HttpState,
    jwt: &Result<VerifiedJwt, &'static str>,
    wanted: RoleClaim,
    request_id: Option<&str>,
) -> Result<(), Problem> {
    let role = jwt.as_ref().map(|jwt| jwt.role);
    let (refusal, reason) = match role {
        Ok(Some(role)) if role == wanted => return Ok(()),
        Ok(Some(_) | None) => (
            Problem::RoleRequired(wanted),
            match wanted {
                RoleClaim::Admin => "the role admin is required",
                RoleClaim::Hr => "the role hr is required",
            },
        ),
        Err(reason) => (Problem::JwtRequired(reason, wanted), *reason),
    };
    let actor = jwt.as_ref().ok().map(|jwt| &jwt.user);
    let _permit = match actor {
        Some(_) => None,
        None => Some(state.traffic.permit().await?),
    };
    state.audit.refuse(reason, actor, request_id).await?;
    Err(refusal)
}

/// What was decided is kept before anything is done on its strength.
async fn keep(
    state: &HttpState,
    detection: &Detection,
    request_id: Option<&str>,
) -> Result<(), Problem> {
    let account = detection.github_owner.as_ref();
    let account = account.map(|owner| owner.id.to_string());
    // Who has a valid JWT and names no public user waits for nobody.
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
    };
    Ok(state.audit.decided(decided).await?)
}

fn credentials(headers: &HeaderMap, uri: &Uri) -> Credentials {
    let all = |name: HeaderName| {
        headers
            .get_all(name)
            .iter()
            .map(|value| HeaderText::from_bytes(value.as_bytes()))
            .collect()
    };
    // A query that cannot be read names nobody, which is not the same as naming no one.
    let usernames = match Query::<Vec<(String, String)>>::try_from_uri(uri) {
        Ok(Query(pairs)) => pairs
            .into_iter()
            .filter(|(name, _)| name == USERNAME)
            .map(|(_, value)| value)
            .collect(),
        Err(_) => vec![String::new()],
    };
    Credentials {
        authorization: all(AUTHORIZATION),
        github_token: all(GITHUB_TOKEN),
        usernames,
    }
}

/// The caller, or the refusal that the decision amounts to.
fn known(decision: Decision) -> Result<Caller, Problem> {
    match decision {
        Decision::Caller(caller) => Ok(caller),
        Decision::CredentialsRequired { reason, .. } => Err(Problem::CredentialsRequired(reason)),
        Decision::IdentityUnavailable => Err(Problem::IdentityUnavailable),
        Decision::InvalidUsername(why) => Err(Problem::InvalidUsername(why)),
        Decision::AmbiguousIdentity => Err(Problem::AmbiguousIdentity),
    }
}

fn subject(detection: &Detection) -> Subject {
    let nobody = |user_type, ambiguous| Subject {
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
        Decision::CredentialsRequired { ambiguous, .. } => nobody(UserType::External, *ambiguous),
        Decision::AmbiguousIdentity => nobody(UserType::External, true),
        Decision::InvalidUsername(_) => nobody(UserType::External, false),
        // The JWT is valid, so whatever this is, it is no public user.
        Decision::IdentityUnavailable => nobody(UserType::Internal, false),
    }
}

fn warn_of(detection: &Detection, subject: &Subject) {
    let reason = match &detection.decision {
        Decision::Caller(caller) => caller.reason,
        Decision::CredentialsRequired { reason, .. } => reason,
        Decision::AmbiguousIdentity => "a public user was named and credentials came along",
        Decision::InvalidUsername(_) | Decision::IdentityUnavailable => return,
    };
    warn!(
        user_id = subject.user.as_ref().map(UserId::as_str),
        user_type = subject.user_type.as_str(),
        reason,
        "it is not clear who is asking",
    );
}
