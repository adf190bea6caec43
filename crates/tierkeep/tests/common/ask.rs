//! One request to the router, and its answer.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::request::Builder;
use axum::http::{HeaderMap, HeaderName, Request, StatusCode};
use serde_json::Value;
use tower::ServiceExt;

/// A request in the making.
pub struct Ask {
    router: Router,
    path: String,
    builder: Builder,
    body: Body,
}

impl Ask {
    pub fn new(router: Router, method: &str, path: &str) -> Self {
        Self {
            router,
            path: path.to_owned(),
            builder: Request::builder().method(method),
            body: Body::empty(),
        }
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.builder = self.builder.header(name, value.as_ref());
        self
    }

    pub fn jwt(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub fn github(self, token: &str) -> Self {
        self.header("x-github-token", token)
    }

    /// Adds `username=`, which is sent as it is given.
    pub fn named(self, username: &str) -> Self {
        self.query(&format!("username={username}"))
    }

    /// Adds this to the query.
    pub fn query(mut self, part: &str) -> Self {
        let joint = if self.path.contains('?') { '&' } else { '?' };
        self.path = format!("{}{joint}{part}", self.path);
        self
    }

    /// With this body, as JSON.
    pub fn json(self, body: impl Into<Body>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// With this body, of no type.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    pub async fn send(self) -> Answer {
        let request = self.builder.uri(&self.path).body(self.body).unwrap();
        let answer = self.router.oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let answer = Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        };
        assert!(answer.header("x-request-id").is_some(), "{answer:?}");
        answer
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let name: HeaderName = name.parse().unwrap();
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The status, and the code where this is a refusal.
    pub fn outcome(&self) -> (u16, String) {
        if self.status.is_success() || self.status == StatusCode::NOT_MODIFIED {
            return (self.status.as_u16(), String::new());
        }
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.value();
        assert_eq!(problem["status"], self.status.as_u16(), "{self:?}");
        (
            self.status.as_u16(),
            problem["code"].as_str().unwrap().to_owned(),
        )
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }

    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!(self.outcome(), (status, code.to_owned()), "{self:?}");
        self
    }
}
