"""The service's answers, as frozen dataclasses with the service's names.

Unknown fields are ignored; a missing field or one of another type is an
:class:`~tierkeep.errors.UnexpectedAnswerError`. Dates carry their offset. ``/openapi.json`` of a running service
describes each field; a test compares it with these classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ._decode import from_headers, named, rest, whole


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a user, as it was stored."""

    content: dict[str, Any] = whole()
    """The section. BSON types that JSON lacks are relaxed Extended JSON v2."""
    version: int | None = from_headers(lambda answer: answer.version)
    """The document's version, for ``if_match``; ``None`` if another program wrote the document."""
    source: str | None = from_headers(lambda answer: answer.source)
    """``srie_main_user`` if the answer comes from the backup."""
    ambiguous: bool = from_headers(lambda answer: answer.ambiguous)
    """The request names a public user and also carries credentials."""


@dataclass(frozen=True, slots=True)
class UserMetadata:
    """Metadata of a document. Documents of other programs may lack any field."""

    storage_location: str | None = None
    backup_status: str | None = None
    version: int | None = None
    staged_at: str | None = None
    updated_at: str | None = None
    digest: str | None = None
    schema_version: int | None = None


@dataclass(frozen=True, slots=True)
class User:
    """A user's document. Its dates are strings, because documents of other programs may hold any value."""

    user_id: str
    id: Any = named("_id")
    user_type: str | None = None
    created_at: str | None = None
    last_accessed: str | None = None
    data_location: str | None = None
    metadata: UserMetadata | None = None
    sections: dict[str, Any] = rest()
    """The sections that are stored, by name."""
    version: int | None = from_headers(lambda answer: answer.version)
    source: str | None = from_headers(lambda answer: answer.source)
    ambiguous: bool = from_headers(lambda answer: answer.ambiguous)


@dataclass(frozen=True, slots=True)
class Changed:
    """The outcome of a write of a section."""

    user_id: str
    version: int
    """The document's version after the write, for ``if_match``."""
    database: str
    """The database that holds the document."""
    updated_at: datetime
    created: bool = from_headers(lambda answer: answer.status == 201)
    """The user was created."""
    ambiguous: bool = from_headers(lambda answer: answer.ambiguous)


@dataclass(frozen=True, slots=True)
class Erasing:
    """An erasure. It takes effect immediately."""

    pending: tuple[str, ...]
    """The databases that have not confirmed it; the service completes the erasure there in the background."""


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """How the caller is identified, and where reads and writes go."""

    user_type: str
    """``internal`` or ``external``."""
    user_id: str
    reason: str
    reads: tuple[str, ...]
    writes: str


@dataclass(frozen=True, slots=True)
class HrMetadata:
    """Metadata of an HR record."""

    version: int | None = None
    backup_status: str | None = None
    """``completed``, or ``pending`` until the backup has this version."""


@dataclass(frozen=True, slots=True)
class HrRecord:
    """An HR record."""

    id: Any = named("_id")
    created_at: str | None = None
    updated_at: str | None = None
    metadata: HrMetadata = field(default_factory=HrMetadata)
    content: dict[str, Any] = rest()
    """The record as it was stored."""
    created: bool = from_headers(lambda answer: answer.status == 201)
    """The record was created."""
    source: str | None = from_headers(lambda answer: answer.source)
    """``srie_main_hr`` if the answer comes from the backup."""

    @property
    def version(self) -> int | None:
        """The record's version, for ``if_match``."""
        return self.metadata.version


@dataclass(frozen=True, slots=True)
class HrPage:
    """A page of HR records; ``next_cursor`` is ``None`` on the last."""

    items: tuple[HrRecord, ...]
    next_cursor: str | None
    source: str | None = from_headers(lambda answer: answer.source)


@dataclass(frozen=True, slots=True)
class Health:
    """Health of the service."""

    status: str
    """``ok``, ``degraded``, ``starting``, ``draining`` or ``down``."""
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """One database."""

    name: str
    status: str
    """``up`` or ``down``."""
    breaker: str
    """``closed``, ``open`` or ``half_open``."""
    latency_ms: float | None = None
    error: str | None = None
    """The class of the error, such as ``timeout`` or ``refused``."""
    warning: str | None = None
    """A warning if its server is a product other than MongoDB."""


@dataclass(frozen=True, slots=True)
class DatabasesHealth:
    """All seven databases."""

    databases: tuple[DatabaseHealth, ...]


@dataclass(frozen=True, slots=True)
class BackupPending:
    """Pending backups; ``None`` while the database that stores the count is unavailable."""

    user: int | None
    hr: int | None


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """One database in the overview."""

    name: str
    reachable: bool
    documents: int | None
    breaker: str


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last completed run of the mover."""

    run_id: str
    finished_at: datetime
    moved: int
    failed: int
    deferred: int


@dataclass(frozen=True, slots=True)
class Run:
    """The progress of a run."""

    run_id: str
    moved: int
    failed: int
    bytes: int
    per_second: float


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """The process that moves, and its run."""

    holder: str
    fence: int
    run: Run | None


@dataclass(frozen=True, slots=True)
class LastError:
    """The last error that stopped a run."""

    at: datetime
    run_id: str
    database: str
    error: str


@dataclass(frozen=True, slots=True)
class MoverStatus:
    """The state of the mover, and the process that runs it."""

    phase: str
    """``idle``, ``waiting``, ``moving``, ``stuck``, ``paused`` or ``unknown``."""
    holder: LeaseHolder | None
    last_error: LastError | None


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert for each kind and subject."""

    kind: str
    subject: str
    first_at: datetime
    last_at: datetime
    count: int
    resolved_at: datetime | None
    message: str


@dataclass(frozen=True, slots=True)
class AlertPage:
    """A page of alerts; ``next_cursor`` is ``None`` on the last."""

    items: tuple[Alert, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of documents, and their size in BSON."""

    documents: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Hour:
    """The documents that become due in one hour."""

    to: datetime
    documents: int
    bytes: int
    from_: datetime = named("from")


@dataclass(frozen=True, slots=True)
class Simulation:
    """The simulated moves."""

    to: datetime
    paused: bool
    total: Amount
    due_now: Amount
    hours: tuple[Hour, ...]
    parked: Amount
    next_attempt_at: datetime | None
    failed: Amount
    quarantined: Amount
    from_: datetime = named("from")


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of the system; unknown values are ``None``."""

    databases: tuple[DatabaseStatus, ...]
    due: int | None
    overdue: int | None
    lag_seconds: int | None
    failed: int | None
    quarantined: int | None
    backup_pending: BackupPending
    paused: bool | None
    verified_up_to: datetime | None
    last_run: LastRun | None
    mover: MoverStatus
    alerts: tuple[Alert, ...] | None
    next_24_hours: Simulation | None


@dataclass(frozen=True, slots=True)
class Copy:
    """One stored copy of a user's document, without its content."""

    database: str
    collection: str
    version: int | None
    staged_at: datetime | None
    updated_at: datetime | None
    size: int
    digest: str
    backup_status: str | None
    state: str
    """``live``, ``entering`` or ``erased``."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """The progress of a user's erasure."""

    epoch: int
    stage: str
    """``pending``, ``verified`` or ``closed``."""
    requested_at: datetime | None
    verified_at: datetime | None
    pending: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UserMigration:
    """A migration record in the explanation of a user."""

    migration_id: str
    version: int
    status: str
    retry_count: int
    migration_date: datetime | None
    next_attempt_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The state of one user's data, without its content."""

    user_id: str
    user_type: str
    authoritative: str | None
    due_at: datetime | None
    erased: bool
    erasure: Erasure | None
    copies: tuple[Copy, ...]
    records: tuple[UserMigration, ...] | None
    next: str
    unreachable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration record."""

    migration_id: str
    user_id: str
    source_db: str
    target_db: str
    backup_db: str
    migration_date: datetime | None
    status: str
    """``pending``, ``completed`` or ``failed``."""
    data_size: int
    retry_count: int
    version: int
    run_id: str | None
    started_at: datetime | None
    finished_at: datetime | None
    next_attempt_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Migrations:
    """A page of migration records; ``next_cursor`` is ``None`` on the last."""

    items: tuple[Migration, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An entry of the audit trail."""

    seq: int
    at: datetime
    kind: str
    user_id: str | None
    actor: str | None
    decision: str | None
    reason: str | None
    request_id: str | None
    database: str | None
    prev: str
    hash: str


@dataclass(frozen=True, slots=True)
class UnreadableEntry:
    """An entry of the trail that was changed."""

    seq: int | None
    unreadable: bool


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of the audit trail; ``next_cursor`` is ``None`` on the last."""

    items: tuple[AuditEntry | UnreadableEntry, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Counted:
    """The outcome of a dry run."""

    run_id: str
    scanned: int
    due: int
    moved: int
    failed: int
    deferred: int
    quarantined: int
    bytes: int
    dry_run: bool
    paused: bool
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class Begun:
    """Work that continues in the service; ``run_id`` identifies it in records and logs."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Retried:
    """The number of failed moves that are pending again."""

    retried: int


@dataclass(frozen=True, slots=True)
class Pausing:
    """Whether the mover is paused."""

    paused: bool
    changed: bool
    """Whether the state changed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A document whose copies differ."""

    collection: str
    id: str
    main: int | None
    """The version in main."""
    srie: int | None
    """The version in srie."""
    reason: str | None
    repaired: bool
    kind: str = named("class")


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of a comparison of main with its backup."""

    checked: int
    matched: int
    missing_in_backup: int
    missing_in_main: int
    different: int
    repaired: int
    in_flight: int
    findings: tuple[Finding, ...]
    complete: bool
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A document that was not copied, and the reason."""

    collection: str
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Restored:
    """The outcome of a restore or a dry run."""

    checked: int
    restored: int
    unchanged: int
    newer_in_main: int
    shadowed: int
    erased: int
    corrupt: int
    conflicts: int
    refused: int
    missing: int
    problems: tuple[Refused, ...]
    dry_run: bool
    complete: bool
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class BackedUp:
    """The outcome of a backup."""

    checked: int
    backed_up: int
    unchanged: int
    newer_in_backup: int
    erased: int
    corrupt: int
    conflicts: int
    refused: int
    problems: tuple[Refused, ...]
    complete: bool
    elapsed_ms: int
