"""Each operation of the service, once. The clients call these; a test compares them with ``/openapi.json``."""

from __future__ import annotations

from typing import Any, cast

from . import results
from ._protocol import MERGE_PATCH, Empty, Route

_CONDITIONS = ("If-Match", "If-None-Match")
_PAGE = ("limit", "cursor")
_SECTION = "/v1/user/{section}"
_RECORD = "/v1/hr/{collection}/{id}"

READ_USER: Route[results.User | None] = Route(
    "read_user", "GET", "/v1/user", {200: results.User, 304: Empty()}, ("username",), _CONDITIONS
)
ERASE_USER: Route[results.Erasing] = Route(
    "erase_user",
    "DELETE",
    "/v1/user",
    {202: results.Erasing, 204: Empty(results.Erasing(pending=()))},
    ("username",),
    ("If-Match",),
)
READ_SECTION: Route[results.Section | None] = Route(
    "read_section", "GET", _SECTION, {200: results.Section, 304: Empty()}, ("username",), _CONDITIONS
)
_CHANGED = {200: results.Changed, 201: results.Changed}
REPLACE_SECTION: Route[results.Changed] = Route(
    "replace_section", "PUT", _SECTION, _CHANGED, ("username",), _CONDITIONS, fields=()
)
PATCH_SECTION: Route[results.Changed] = Route(
    "patch_section", "PATCH", _SECTION, _CHANGED, ("username",), _CONDITIONS, fields=(), media_type=MERGE_PATCH
)
REMOVE_SECTION: Route[results.Changed] = Route(
    "remove_section", "DELETE", _SECTION, {200: results.Changed}, ("username",), ("If-Match",)
)
EXPLAIN_ROUTE: Route[results.RouteDecision] = Route(
    "explain_route", "GET", "/v1/route", {200: results.RouteDecision}, ("username",)
)

LIST_HR_RECORDS: Route[results.HrPage] = Route(
    "list_hr_records", "GET", "/v1/hr/{collection}", {200: results.HrPage}, _PAGE
)
READ_HR_RECORD: Route[results.HrRecord | None] = Route(
    "read_hr_record", "GET", _RECORD, {200: results.HrRecord, 304: Empty()}, headers=_CONDITIONS
)
_WRITTEN = {200: results.HrRecord, 201: results.HrRecord}
REPLACE_HR_RECORD: Route[results.HrRecord] = Route(
    "replace_hr_record", "PUT", _RECORD, _WRITTEN, headers=_CONDITIONS, fields=()
)
PATCH_HR_RECORD: Route[results.HrRecord] = Route(
    "patch_hr_record", "PATCH", _RECORD, _WRITTEN, headers=_CONDITIONS, fields=(), media_type=MERGE_PATCH
)
REMOVE_HR_RECORD: Route[None] = Route("remove_hr_record", "DELETE", _RECORD, {204: Empty()}, headers=("If-Match",))

OVERVIEW: Route[results.Overview] = Route("overview", "GET", "/v1/admin/overview", {200: results.Overview})
EXPLAIN_USER: Route[results.Explanation] = Route(
    "explain_user", "GET", "/v1/admin/users/{user_id}", {200: results.Explanation}
)
LIST_MIGRATIONS: Route[results.Migrations] = Route(
    "list_migrations", "GET", "/v1/admin/migrations", {200: results.Migrations}, ("status", "user", *_PAGE)
)
RUN_MIGRATION: Route[results.Counted | results.Begun] = Route(
    "run_migration",
    "POST",
    "/v1/admin/migrations/run",
    {200: results.Counted, 202: results.Begun},
    fields=("dry_run", "older_than", "limit"),
)
RETRY_MIGRATIONS: Route[results.Retried] = Route(
    "retry_migrations", "POST", "/v1/admin/migrations/retry", {200: results.Retried}, fields=("user_id",)
)
PAUSE_MOVER: Route[results.Pausing] = Route("pause_mover", "POST", "/v1/admin/mover/pause", {200: results.Pausing})
RESUME_MOVER: Route[results.Pausing] = Route("resume_mover", "POST", "/v1/admin/mover/resume", {200: results.Pausing})
VERIFY: Route[results.Verified | results.Begun] = Route(
    "verify",
    "POST",
    "/v1/admin/verify",
    {200: results.Verified, 202: results.Begun},
    fields=("quick", "repair", "prefer", "sample"),
)
RESTORE: Route[results.Restored | results.Begun] = Route(
    "restore",
    "POST",
    "/v1/admin/restore",
    {200: results.Restored, 202: results.Begun},
    fields=("user_id", "user_ids", "all", "dry_run"),
)
BACKUP: Route[results.BackedUp | results.Begun] = Route(
    "backup", "POST", "/v1/admin/backup", {200: results.BackedUp, 202: results.Begun}
)
LIST_AUDIT: Route[results.AuditPage] = Route(
    "list_audit", "GET", "/v1/admin/audit", {200: results.AuditPage}, ("kind", "user", *_PAGE)
)
LIST_ALERTS: Route[results.AlertPage] = Route(
    "list_alerts", "GET", "/v1/admin/alerts", {200: results.AlertPage}, ("filter", *_PAGE)
)

LIVE: Route[results.Health] = Route("live", "GET", "/health/live", {200: results.Health})
READY: Route[results.Health] = Route("ready", "GET", "/health/ready", {200: results.Health, 503: results.Health})
DATABASES: Route[results.DatabasesHealth] = Route(
    "databases", "GET", "/health/databases", {200: results.DatabasesHealth, 503: results.DatabasesHealth}
)
DATABASE: Route[results.DatabaseHealth] = Route(
    "database", "GET", "/health/databases/{name}", {200: results.DatabaseHealth, 503: results.DatabaseHealth}
)
METRICS: Route[str] = Route("metrics", "GET", "/metrics", {200: str})
OPENAPI: Route[dict[str, Any]] = Route("openapi", "GET", "/openapi.json", {200: dict})
DASHBOARD: Route[str] = Route("dashboard", "GET", "/", {200: str})

ALL: tuple[Route[object], ...] = tuple(
    cast("Route[object]", value) for value in list(globals().values()) if isinstance(value, Route)
)
"""Every operation that the clients know."""
