//! The two routes on axum with the driver: check of the token, one command, one answer.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bson::raw::RawDocumentBuf;
use bson::{Document, doc};
use mongodb::{Client, Collection};
use tierkeep_core::user::UserId;
use tierkeep_identity::{JwtKeys, JwtSettings, JwtVerifier};
use tokio::net::TcpListener;

use crate::place::{MachineClock, USERS};
use crate::program;

/// The first argument of the process that serves this.
pub const COMMAND: &str = "bare-service";

struct Bare {
    users: Collection<RawDocumentBuf>,
    jwt: JwtVerifier,
}

/// Serves the documents of the database that `url` names, until the process ends.
pub async fn serve(url: &str) -> Result<()> {
    let client = Client::with_uri_str(url).await?;
    let database = client
        .default_database()
        .context("the connection string names a database")?;
    let keys = JwtKeys::Secret {
        current: program::SECRET.into(),
        previous: None,
    };
    let bare = Arc::new(Bare {
        users: database.collection(USERS),
        jwt: JwtVerifier::new(JwtSettings::new(keys), Arc::new(MachineClock))?,
    });
    let router = Router::new()
        .route("/v1/user/scan_cache", get(read).put(replace))
        .with_state(bare);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    crate::say(&listener.local_addr()?.to_string());
    axum::serve(listener, router).await?;
    Ok(())
}

async fn read(State(bare): State<Arc<Bare>>, headers: HeaderMap) -> Result<Response, StatusCode> {
    let user = bare.caller(&headers)?;
    let found = bare
        .users
        .find_one(doc! { "_id": user.as_str() })
        .projection(doc! { "_id": 0, "scan_cache": 1 })
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?
        .ok_or(StatusCode::NOT_FOUND)?;
    let section = found
        .get_document("scan_cache")
        .map_err(|_| StatusCode::NOT_FOUND)?;
    let json = serde_json::to_vec(&section).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

async fn replace(
    State(bare): State<Arc<Bare>>,
    headers: HeaderMap,
    Json(section): Json<Document>,
) -> Result<StatusCode, StatusCode> {
    let user = bare.caller(&headers)?;
    bare.users
        .update_one(
            doc! { "_id": user.as_str() },
            doc! { "$set": { "scan_cache": section }, "$inc": { "metadata.version": 1_i64 } },
        )
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(StatusCode::OK)
}

impl Bare {
    fn caller(&self, headers: &HeaderMap) -> Result<UserId, StatusCode> {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .ok_or(StatusCode::UNAUTHORIZED)?;
        let verified = self
            .jwt
            .verify(token)
            .map_err(|_| StatusCode::UNAUTHORIZED)?;
        Ok(verified.user)
    }
}
