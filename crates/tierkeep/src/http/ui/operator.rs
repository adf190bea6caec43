//! The signed-in administrator: owns that every page behind the sign-in has an administrator, and every form of theirs
//! its token.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::Request;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::form::Fields;
use super::page::Refused;
use super::sign_in;
use super::words::{When, Words};
use crate::http::request::caller::Admin;
use crate::http::state::HttpState;

/// An administrator with a session. As an extractor it shows every other caller the sign-in form.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    pub(super) admin: Admin,
    /// Names the session in the table.
    pub(super) session: blake3::Hash,
    /// What the forms of this session carry.
    pub(super) csrf: String,
    /// What was done last, to be told once.
    pub(super) notice: Option<String>,
    /// Times as seen from this page.
    pub(super) words: Words,
    /// When the session ends.
    pub(super) until: When,
}

impl FromRequestParts<HttpState> for Operator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Response> {
        let Some(session) = state.sessions.of(&parts.headers) else {
            return Err(sign_in::required(parts));
        };
        let admin = Admin::of_session(state, parts, session.user);
        let admin = admin.map_err(|limited| Refused::Problem(limited.into()).into_response())?;
        let words = Words::new(state.mover.service.engine().clock().now());
        let reads = parts.method.is_safe();
        let notice = reads.then(|| state.sessions.told(&session.key)).flatten();
        // The session ends by the clock that JWTs are held against.
        let until = words.at(session.expires_at);
        Ok(Self {
            admin,
            session: session.key,
            csrf: session.csrf,
            notice,
            words,
            until,
        })
    }
}

/// A form of a session that carries its token. As an extractor it refuses every other.
pub(super) struct Signed {
    pub(super) by: Operator,
    pub(super) fields: Fields,
}

impl FromRequest<HttpState> for Signed {
    type Rejection = Response;

    async fn from_request(request: Request<Body>, state: &HttpState) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let by = Operator::from_request_parts(&mut parts, state).await?;
        let fields = Fields::read(Request::from_parts(parts, body)).await;
        let fields = fields.map_err(|problem| Refused::Problem(problem).into_response())?;
        if fields.carries(&by.csrf) {
            return Ok(Self { by, fields });
        }
        Err(Refused::Form.into_response())
    }
}
