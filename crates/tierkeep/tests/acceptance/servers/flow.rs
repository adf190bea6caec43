//! What a deployment must be able to do wherever its databases are: start, store documents, move them, store HR
//! records, erase, restore, verify and replicate.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tierkeep_core::db::Role;
use tierkeep_identity::RoleClaim;

use super::super::program::{Deployment, Service, token, token_of};

const FIRST: &str = "507f1f77bcf86cd799439011";
const SECOND: &str = "507f1f77bcf86cd799439012";

async fn put(service: &Service, subject: &str, n: i32) -> StatusCode {
    let put = Client::new()
        .put(service.url("/v1/user/scan_cache"))
        .bearer_auth(token(subject))
        .header("x-github-token", "gho_something");
    put.json(&json!({ "n": n })).send().await.unwrap().status()
}

async fn hr(service: &Service, n: i32) -> Value {
    let put = Client::new()
        .put(service.url("/v1/hr/hr_candidates/one"))
        .bearer_auth(token_of(FIRST, Some(RoleClaim::Hr)));
    let answer = put.json(&json!({ "n": n })).send().await.unwrap();
    answer.json().await.unwrap()
}

/// Does all of it; `deployment` asks a GitHub that knows every token, and keeps documents for a moment.
pub async fn works(deployment: &Deployment) {
    deployment.json(&["init", "--json"]);
    let service = deployment.serve();
    assert_eq!(put(&service, FIRST, 1).await, StatusCode::CREATED);
    assert_eq!(put(&service, SECOND, 1).await, StatusCode::CREATED);
    let public = service.url("/v1/user/scan_cache?username=reader");
    let public = Client::new().put(public).json(&json!({ "n": 1 }));
    assert_eq!(public.send().await.unwrap().status(), StatusCode::CREATED);
    for n in 1..3 {
        let record = hr(&service, n).await;
        assert_eq!(record["metadata"]["backup_status"], "completed", "{record}");
    }
    let delete = Client::new()
        .delete(service.url("/v1/hr/hr_candidates/one"))
        .bearer_auth(token_of(FIRST, Some(RoleClaim::Hr)));
    assert_eq!(
        delete.send().await.unwrap().status(),
        StatusCode::NO_CONTENT
    );
    tokio::time::sleep(Duration::from_millis(20)).await;
    let moved = deployment.json(&["migrate", "run", "--json"]);
    assert_eq!(moved["failed"], 0, "{moved}");
    assert_eq!(deployment.users(Role::RaseenMainUser).await.len(), 2);
    // From main up into temp, and down again.
    assert_eq!(put(&service, FIRST, 2).await, StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(20)).await;
    deployment.json(&["migrate", "run", "--json"]);
    let erased = deployment.json(&["erase", &format!("internal_{SECOND}"), "--yes", "--json"]);
    assert_eq!(erased["pending"], json!([]), "{erased}");
    deployment.json(&["restore", "--all", "--json"]);
    deployment.json(&["backup", "--json"]);
    let verified = deployment.json(&["verify", "--json"]);
    assert_eq!(verified["different"], 0, "{verified}");
    assert!(deployment.run(&["audit", "verify"]).status.success());
    let ready = Client::new().get(service.url("/health/ready")).send().await;
    let ready: Value = ready.unwrap().json().await.unwrap();
    assert_eq!(ready, json!({ "status": "ok", "reasons": [] }));
}
