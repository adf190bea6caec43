//! Who is asking: what of a request the User Type Detector looks at, and the refusals.

use axum::extract::{FromRequestParts, Query};
use axum::http::{StatusCode, request::Parts};
use tierkeep_engine::core::identity::Decision;
use tierkeep_engine::core::user::UserId;
use tierkeep_identity::{Credentials, HeaderText, RoleClaim};

use crate::{App, Refusal, unavailable};

/// A caller whom the User Type Detector knows. It looks at two headers and `username`, and at nothing else.
pub(crate) struct Asking(pub(crate) UserId);

impl FromRequestParts<App> for Asking {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(query) = query.map_err(|why| (StatusCode::BAD_REQUEST, why.to_string()))?;
        let names = query.into_iter().filter(|(name, _)| name == "username");
        let credentials = Credentials {
            authorization: headers(parts, "authorization"),
            github_token: headers(parts, "x-github-token"),
            usernames: names.map(|(_, value)| value).collect(),
        };
        let decision = app.detector.detect(&credentials).await.decision;
        match decision {
            Decision::Caller(caller) => Ok(Self(caller.user)),
            Decision::IdentityUnavailable => Err(unavailable("GitHub is unavailable")),
            refused @ (Decision::CredentialsRequired { .. }
            | Decision::InvalidUsername(_)
            | Decision::AmbiguousIdentity) => {
                Err((StatusCode::UNAUTHORIZED, format!("{refused:?}")))
            }
        }
    }
}

/// A caller whose JWT has the role `admin`. No GitHub token is needed.
pub(crate) struct Administrator;

impl FromRequestParts<App> for Administrator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let jwt = app.detector.role(&headers(parts, "authorization")).await;
        let jwt = jwt.map_err(|why| (StatusCode::UNAUTHORIZED, why.to_string()))?;
        let may = jwt.has_role(RoleClaim::Admin).then_some(Self);
        may.ok_or((StatusCode::FORBIDDEN, "only for administrators".into()))
    }
}

fn headers(parts: &Parts, name: &str) -> Vec<HeaderText> {
    let values = parts.headers.get_all(name).into_iter();
    values
        .map(|value| HeaderText::from_bytes(value.as_bytes()))
        .collect()
}
