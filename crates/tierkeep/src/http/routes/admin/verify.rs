//! `POST /v1/admin/verify`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::{Deserialize, Deserializer};
use tierkeep_core::compare::{Class, Side};
use tierkeep_core::content::InvalidBody;
use tierkeep_core::store::StoreError;
use tierkeep_engine::{Difference, Verification, Verified, VerifyOptions};
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema};
use utoipa::openapi::{RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

use super::OVER_HTTP;
use super::task::{self, Begun, TaskError, TaskState};
use crate::http::openapi::schema::{amount, body, constant, of, request};
use crate::http::request::body;
use crate::http::request::caller::Admin;
use crate::http::request::fields::{self, Amount, Flag};
use crate::http::response::problem::causes::BodyError;
use crate::http::state::HttpState;

/// What to compare, and whether to repair it.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct VerifyRequest {
    #[serde(default)]
    quick: Flag,
    #[serde(default)]
    repair: Flag,
    #[serde(default, deserialize_with = "side")]
    prefer: Option<Side>,
    sample: Option<Amount>,
}

fn side<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Side>, D::Error> {
    let parse = |text: &str| match text {
        "main" => Ok(Side::Main),
        "srie" => Ok(Side::Srie),
        _ => Err("main or srie".to_owned()),
    };
    fields::text(deserializer, parse).map(Some)
}

impl TryFrom<VerifyRequest> for VerifyOptions {
    type Error = BodyError;

    fn try_from(request: VerifyRequest) -> Result<Self, BodyError> {
        let repair = request.repair.0;
        if request.prefer.is_some() && !repair {
            let why = "prefer needs repair: true";
            return Err(InvalidBody::Content(why.into()).into());
        }
        let quick = request.quick.0;
        if quick && request.sample.is_some() {
            let why =
                "quick cannot be combined with sample: the documents of a sample are read whole";
            return Err(InvalidBody::Content(why.into()).into());
        }
        Ok(Self {
            quick,
            repair,
            prefer: request.prefer,
            sample: request.sample.map(|Amount(sample)| sample),
        })
    }
}

impl PartialSchema for VerifyRequest {
    fn schema() -> RefOr<Schema> {
        let described = |schema: ObjectBuilder, what: &str| schema.description(Some(what));
        let quick = |schema| described(schema, "compare versions and stored digests only");
        let repair = |schema| described(schema, "repair differences");
        let sample = || {
            described(
                amount(),
                "compare a random sample of about this many documents instead of all",
            )
        };
        let prefer = || {
            let sides = of(Type::String).enum_values(Some(["main", "srie"]));
            described(
                sides,
                "the copy to keep where versions and digests do not decide",
            )
        };
        let (either, yes, no) = (|| of(Type::Boolean), || constant(true), || constant(false));
        let all = [("repair", repair(either())), ("quick", quick(either()))];
        let some = [
            ("repair", repair(either())),
            ("quick", quick(no())),
            ("sample", sample()),
        ];
        let all_preferring = [
            ("repair", repair(yes())),
            ("prefer", prefer()),
            ("quick", quick(either())),
        ];
        let some_preferring = [
            ("repair", repair(yes())),
            ("prefer", prefer()),
            ("quick", quick(no())),
            ("sample", sample()),
        ];
        let either = AnyOfBuilder::new()
            .description(Some(
                "Without `repair`, nothing is changed. `prefer` needs `repair`; `quick` and `sample` exclude each other.",
            ))
            .item(request(all, &[]))
            .item(request(some, &[]))
            .item(request(all_preferring, &["repair", "prefer"]))
            .item(request(some_preferring, &["repair", "prefer"]));
        RefOr::T(either.build().into())
    }
}

impl ToSchema for VerifyRequest {}

body! {
    /// The outcome of a comparison of main with its backup.
    component VerifiedBody("Verified") from Verified {
        checked: u64,
        matched: u64,
        missing_in_backup: u64,
        missing_in_main: u64,
        different: u64,
        repaired: u64,
        in_flight: u64,
        /// The first findings; the counts include all of them.
        findings: Vec<DifferenceBody>,
        complete: bool,
        elapsed_ms: u64,
    }
}

body! {
    inline DifferenceBody("Difference") from Difference {
        collection: String,
        id: String,
        class: Class,
        /// the version in main
        main: Option<i64>,
        /// the version in srie
        srie: Option<i64>,
        reason: Option<String>,
        repaired: bool,
    }
}

/// Compare users' documents and HR records in main with their backups, and repair differences if `repair` is true.
#[utoipa::path(
    post,
    path = "/v1/admin/verify",
    tag = "admin",
    operation_id = "verify",
    request_body(content = VerifyRequest, content_type = "application/json",
        description = "`quick`: compare versions and stored digests only, without reading content; pairs that differ are read whole; `repair`: repair differences; `prefer`: main or srie, the copy to keep where versions and digests do not decide; `sample`: compare a random sample of about this many documents instead of all"),
    responses(
        (status = 200, description = "the same as `tierkeep verify --json`: `checked`, `matched`, `missing_in_backup`, `missing_in_main`, `different`, `repaired`, `in_flight`, and the first `findings`", body = VerifiedBody),
        (status = 202, description = "still running; `run_id` identifies it in the log", body = Begun),
        TaskError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn post(
    State(state): State<HttpState>,
    admin: Admin,
    request: Request,
) -> Result<Response, TaskError> {
    let request: VerifyRequest = body::optional(request, &state).await?;
    let comparison = Comparison {
        options: request.try_into()?,
        how: OVER_HTTP,
        longest_wait: task::longest_wait(&state.limits),
    };
    let verified = verify(&state, &admin, comparison, |_| ()).await?;
    Ok(task::answer_of::<_, VerifiedBody>(verified)?)
}

/// A comparison that an administrator asks for.
#[derive(Debug)]
pub(in crate::http) struct Comparison {
    /// What to compare and repair.
    pub(in crate::http) options: VerifyOptions,
    /// How the administrator came, for the audit trail.
    pub(in crate::http) how: &'static str,
    /// How long to wait for the result.
    pub(in crate::http) longest_wait: Duration,
}

/// Compares, after the audit trail has recorded it. `on_result` gets the result, also after the wait has ended.
///
/// # Errors
/// [`TaskError::Database`] and [`TaskError::Internal`].
pub(in crate::http) async fn verify(
    state: &HttpState,
    admin: &Admin,
    comparison: Comparison,
    on_result: impl FnOnce(&Verified) + Send + 'static,
) -> Result<TaskState<Verified>, TaskError> {
    let Comparison {
        options,
        how,
        longest_wait,
    } = comparison;
    let action = if options.repair { "repair" } else { "verify" };
    admin.does(&state.audit, action, None, how).await?;
    let verification = Verification::new(Arc::clone(state.mover.service.engine()));
    let stop = state.mover.stop.clone();
    let work = async move {
        let verified = verification.run(&options, &|_| (), &stop).await?;
        on_result(&verified);
        Ok::<_, StoreError>(verified)
    };
    task::run(state, action, longest_wait, work).await
}
