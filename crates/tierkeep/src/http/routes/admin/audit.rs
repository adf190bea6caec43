//! `GET /v1/admin/audit`.

use std::borrow::Cow;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::store::StoreError;
use tierkeep_engine::{AuditFilter, Listed};
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema};
use utoipa::openapi::{RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

use super::super::error::route_error;
use crate::http::openapi::schema::{BodyOf, Components, Described, Rfc3339, body, of, reference};
use crate::http::request::caller::Admin;
use crate::http::request::query;
use crate::http::response::answer;
use crate::http::response::problem::causes::{InternalError, QueryError, RoleError};
use crate::http::state::HttpState;

route_error! {
    /// Why the audit trail is not listed.
    ListAuditError after [RoleError] also [UserNotFound] {
        /// The query cannot be read.
        Query(QueryError),
        /// `evaluation_audit` did not answer.
        Database(StoreError),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

/// An entry of the trail, or what is left of one that was tampered with.
#[derive(Serialize, Debug)]
#[serde(transparent)]
pub(in crate::http) struct AuditItem(Listed);

impl AuditItem {
    fn entry() -> ObjectBuilder {
        let fields = [
            ("seq", i64::described()),
            ("at", Rfc3339::described()),
            ("kind", String::described()),
            ("user_id", Option::<String>::described()),
            ("actor", Option::<String>::described()),
            ("decision", Option::<String>::described()),
            ("reason", Option::<String>::described()),
            ("request_id", Option::<String>::described()),
            ("database", Option::<String>::described()),
            ("prev", String::described()),
            ("hash", String::described()),
        ];
        let object = of(Type::Object);
        fields.into_iter().fold(object, |object, (name, schema)| {
            object.property(name, schema).required(name)
        })
    }
}

impl PartialSchema for AuditItem {
    fn schema() -> RefOr<Schema> {
        let unreadable = of(Type::Object)
            .property("seq", Option::<i64>::described())
            .property("unreadable", of(Type::Boolean).enum_values(Some([true])))
            .required("seq")
            .required("unreadable");
        let either = AnyOfBuilder::new()
            .description(Some("An entry of the audit trail, intact or changed."))
            .item(Self::entry())
            .item(unreadable);
        RefOr::T(either.build().into())
    }
}

impl ToSchema for AuditItem {
    fn name() -> Cow<'static, str> {
        "AuditEntry".into()
    }
}

impl Described for AuditItem {
    fn described() -> RefOr<Schema> {
        reference(&Self::name())
    }

    fn components(found: &mut Components) {
        found.push((Self::name().into_owned(), Self::schema()));
    }
}

impl BodyOf<Listed> for AuditItem {
    fn body_of(value: Listed) -> Self {
        Self(value)
    }
}

body! {
    /// A page of the trail; `next_cursor` is null on the last.
    component AuditPage("AuditPage") {
        items: Vec<AuditItem>,
        next_cursor: Option<String>,
    }
}

/// List the audit trail, oldest entries first.
#[utoipa::path(
    get,
    path = "/v1/admin/audit",
    tag = "admin",
    operation_id = "list_audit",
    params(
        ("kind" = Option<String>, Query, pattern = "^(decision|erasure|admin_action|hr_action|restore|import|failed_move|checkpoint)$", description = "only entries of this kind: decision, erasure, admin_action, hr_action, restore, import, failed_move or checkpoint"),
        ("user" = Option<String>, Query, description = "only entries about this user, by id"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "page size, 1 to 1000 (default 100)"),
        ("cursor" = Option<String>, Query, pattern = "^[0-9]{1,18}$", description = "`next_cursor` of the previous page"),
    ),
    responses(
        (status = 200, description = "`items`, and `next_cursor`, which is null on the last page", body = AuditPage),
        ListAuditError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    _admin: Admin,
    uri: Uri,
) -> Result<Response, ListAuditError> {
    let query = AuditListQuery::read(&uri)?;
    let page = state.audit.page(&query.filter, query.after, query.limit);
    let page = page.await?;
    let page = AuditPage {
        items: BodyOf::body_of(page.items),
        next_cursor: page.next.map(|place| place.to_string()),
    };
    Ok(answer::json(StatusCode::OK, &page)?)
}

/// Which page is asked for.
struct AuditListQuery {
    filter: AuditFilter,
    after: Option<i64>,
    limit: usize,
}

impl AuditListQuery {
    fn read(uri: &Uri) -> Result<Self, QueryError> {
        let mut query = Self {
            filter: AuditFilter::default(),
            after: None,
            limit: query::DEFAULT_LIMIT,
        };
        for (name, value) in query::pairs(uri)? {
            match name.as_str() {
                "kind" => query.filter.kind = Some(kind(&value)?),
                "user" => query.filter.user = Some(query::user(&value)?),
                "limit" => query.limit = query::limit(&value)?,
                "cursor" => query.after = Some(cursor(&value)?),
                _ => {}
            }
        }
        Ok(query)
    }
}

fn kind(text: &str) -> Result<AuditKind, QueryError> {
    AuditKind::parse(text).ok_or(QueryError(
        "kind must be decision, erasure, admin_action, hr_action, restore, import, failed_move or checkpoint",
    ))
}

fn cursor(text: &str) -> Result<i64, QueryError> {
    text.parse().map_err(|_| query::INVALID_CURSOR)
}
