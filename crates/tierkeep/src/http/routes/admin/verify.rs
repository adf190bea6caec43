//! `POST /v1/admin/verify`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;
use tierkeep_core::bson::{Bson, Document};
use tierkeep_core::compare::Side;
use tierkeep_core::store::StoreError;
use tierkeep_engine::{Verification, Verified, VerifyOptions};

use super::{OVER_HTTP, Outlived, amount, flag, only, optional_object, outlived, wrong};
use crate::http::openapi::AdminWriteRefusals;
use crate::http::request::caller::Admin;
use crate::http::response::answer;
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

/// Compare main with its backup, users and HR records, and mend what differs where that is asked for.
#[utoipa::path(
    post,
    path = "/v1/admin/verify",
    tag = "admin",
    operation_id = "verify",
    request_body(content = ref("#/components/schemas/VerifyRequest"), content_type = "application/json",
        description = "`repair`: mend what differs; `prefer`: main or srie, whom to believe where digests do not decide; `sample`: about so many documents in place of all"),
    responses(
        (status = 200, description = "the same as `tierkeep verify --json`: `checked`, `matched`, `missing_in_backup`, `missing_in_main`, `different`, `repaired`, `in_flight`, and the first `findings`", body = ref("#/components/schemas/Verified")),
        (status = 202, description = "it takes long and goes on; `run_id` names it in the log", body = ref("#/components/schemas/Begun")),
        AdminWriteRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn post(
    State(state): State<HttpState>,
    admin: Admin,
    request: Request,
) -> Result<Response, Problem> {
    let options = options(&optional_object(request, &state.limits).await?)?;
    let patience = state.limits.request_timeout.mul_f64(0.75);
    match verify(&state, &admin, options, OVER_HTTP, patience, |_| ()).await? {
        Outlived::Done(verified) => answer::json(StatusCode::OK, &verified),
        Outlived::GoesOn(run_id) => {
            answer::json(StatusCode::ACCEPTED, &json!({ "run_id": run_id }))
        }
    }
}

/// Compares, after the audit trail says so, and waits for it for as long as `patience`. `told` gets the result
/// whenever it is there.
pub(in crate::http) async fn verify(
    state: &HttpState,
    admin: &Admin,
    options: VerifyOptions,
    how: &str,
    patience: Duration,
    told: impl FnOnce(&Verified) + Send + 'static,
) -> Result<Outlived<Verified>, Problem> {
    let action = if options.repair { "repair" } else { "verify" };
    admin.does(&state.audit, action, None, how).await?;
    let verification = Verification::new(Arc::clone(state.mover.service.databases()));
    let stop = state.mover.stop.clone();
    let work = async move {
        let verified = verification.run(&options, &|_| (), &stop).await?;
        told(&verified);
        Ok::<_, StoreError>(verified)
    };
    outlived(state, action, patience, work).await
}

fn options(body: &Document) -> Result<VerifyOptions, Problem> {
    only(body, &["repair", "prefer", "sample"])?;
    let repair = flag(body, "repair")?;
    let prefer = match body.get("prefer").map(Bson::as_str) {
        None => None,
        Some(Some("main")) => Some(Side::Main),
        Some(Some("srie")) => Some(Side::Srie),
        Some(_) => return Err(wrong("prefer is main or srie".into())),
    };
    if prefer.is_some() && !repair {
        return Err(wrong(
            "prefer says how to repair; give repair: true with it".into(),
        ));
    }
    Ok(VerifyOptions {
        repair,
        prefer,
        sample: amount(body, "sample")?,
    })
}
