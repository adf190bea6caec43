# Made from _async/seed.py by tools/make_sync.py: change that file and run the tool.
"""The evaluation service's components by its own names, working through the service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import time

from .. import _names, errors, results
from .._names import DataCategory, UserType, WrongDatabaseError
from .._protocol import Body, Version
from ..credentials import Credentials
from .client import Client

POLL_SECONDS = 0.1
LONGEST_POLL_SECONDS = 2.0


class Database:
    """One of the seven databases, through the service."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name
        """The database's role, such as ``raseen_temp_user``."""

    def ping(self) -> results.DatabaseHealth:
        """Whether the service can reach the database."""
        return self._client.database(self.name)

    def count_documents(self) -> int | None:
        """The number of documents; ``None`` while the database is unavailable. Requires the role admin."""
        databases = (self._client.overview()).databases
        return next(it.documents for it in databases if it.name == self.name)


class UserDatabase(Database):
    """A database of users' documents. Only the mover writes to main and srie."""

    def find_one(self, credentials: Credentials) -> results.User | None:
        """The caller's document, if the current copy is in this database."""
        try:
            user = self._client.with_options(credentials=credentials).read_user()
        except errors.UserNotFoundError:
            return None
        found = user.source or _names.LOCATIONS.get(user.data_location or "")
        return user if found == self.name else None

    def find_copy(self, user_id: str) -> results.Copy | None:
        """The state of the copy in this database, without its content. Requires the role admin."""
        try:
            explained = self._client.explain_user(user_id)
        except errors.UserNotFoundError:
            return None
        return next((copy for copy in explained.copies if copy.database == self.name), None)


class FirstDatabase(UserDatabase):
    """A database that callers' data is written to first: external_users and raseen_temp_user."""

    def update_one(
        self, credentials: Credentials, section: str, content: Body, *, if_match: Version | None = None
    ) -> results.Changed:
        """Replaces a section of the caller's document.

        Raises :class:`WrongDatabaseError` before anything is written if the caller's data belongs in another database.
        """
        client = self._client.with_options(credentials=credentials)
        route = client.explain_route()
        if route.writes != self.name:
            raise WrongDatabaseError(route.user_id, self.name, route.writes)
        return client.replace_section(section, content, if_match=if_match)


class HrDatabase(Database):
    """The database of HR records; each write goes to its backup too. Requires the role hr."""

    def __init__(self, client: Client, name: str, records: Client) -> None:
        super().__init__(client, name)
        self._records = records

    def find_one(self, collection: str, id: str) -> results.HrRecord | None:
        """A record."""
        try:
            return self._records.read_hr_record(collection, id)
        except errors.RecordNotFoundError:
            return None

    def find(self, collection: str) -> Iterator[results.HrRecord]:
        """Every record of a collection."""
        for record in self._records.iter_hr_records(collection):
            yield record

    def replace_one(
        self, collection: str, id: str, content: Body, *, if_match: Version | None = None
    ) -> results.HrRecord:
        """Puts a record."""
        return self._records.replace_hr_record(collection, id, content, if_match=if_match)

    def delete_one(self, collection: str, id: str, *, if_match: Version | None = None) -> None:
        """Removes a record."""
        self._records.remove_hr_record(collection, id, if_match=if_match)


class AuditDatabase(Database):
    """The database of the audit trail. Requires the role admin."""

    def find(
        self, *, kind: str | None = None, user: str | None = None
    ) -> Iterator[results.AuditEntry | results.UnreadableEntry]:
        """The audit trail."""
        for entry in self._client.iter_audit(kind=kind, user=user):
            yield entry


class DatabaseConnectionManager:
    """Gives access to the seven databases, to which only the service connects."""

    def __init__(self, client: Client, *, hr: Credentials | None = None, admin: Credentials | None = None) -> None:
        """``hr`` and ``admin`` are JWTs with these roles, for the databases and methods that require them."""
        self._client = client if admin is None else client.with_options(credentials=admin)
        self._hr = client if hr is None else client.with_options(credentials=hr)

    def get_external_db(self) -> FirstDatabase:
        """Public users."""
        return FirstDatabase(self._client, _names.EXTERNAL_USERS)

    def get_raseen_temp_db(self) -> FirstDatabase:
        """Internal users, until the document is moved."""
        return FirstDatabase(self._client, _names.RASEEN_TEMP_USER)

    def get_raseen_main_db(self) -> UserDatabase:
        """Internal users, after the move."""
        return UserDatabase(self._client, _names.RASEEN_MAIN_USER)

    def get_raseen_hr_db(self) -> HrDatabase:
        """HR records."""
        return HrDatabase(self._client, _names.RASEEN_MAIN_HR, self._hr)

    def get_srie_main_db(self) -> UserDatabase:
        """The backup of internal users."""
        return UserDatabase(self._client, _names.SRIE_MAIN_USER)

    def get_srie_hr_db(self) -> Database:
        """The backup of HR records, which the service maintains."""
        return Database(self._client, _names.SRIE_MAIN_HR)

    def get_audit_db(self) -> AuditDatabase:
        """The audit trail, migration records and alerts."""
        return AuditDatabase(self._client, _names.EVALUATION_AUDIT)


class UserTypeDetector:
    """Distinguishes internal from public users. The service decides, by the credentials of a request alone."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def is_internal_user(self, request: Any) -> bool:
        """Whether the service identifies the caller of this request as an internal user.

        ``request`` is one of FastAPI, Starlette, Flask or Django, or :class:`~tierkeep.Credentials`. A caller
        whose credentials are not sufficient is external. If the caller cannot be identified because GitHub or the
        service is unavailable, the error is raised: private data must not fall through to the public database.
        """
        client = self._client.with_options(credentials=_names.credentials_of(request))
        try:
            return (client.explain_route()).user_type == "internal"
        except errors.CredentialsRequiredError:
            return False

    def get_user_id_with_prefix(self, user_data: dict[str, Any], user_type: UserType) -> str:
        """The id of a user: ``internal_`` and 24 hex digits, or ``external_`` and a name, in lower case."""
        return _names.user_id_with_prefix(user_data, user_type)

    def get_appropriate_database(self, user_type: UserType, data_category: DataCategory = "user") -> str:
        """The name of the database that new data of this category is written to first."""
        return _names.appropriate_database(user_type, data_category)


class DataMigrationService:
    """Moves documents older than 24 hours, and makes their backup. Requires a client with the role admin."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def migrate_expired_data(
        self, *, older_than: str | None = None, limit: int | None = None, wait_seconds: float = 300.0
    ) -> results.LastRun:
        """Moves due documents, with their backups, and waits for the end of the run.

        The service also does this every minute. Raises ``TimeoutError`` after ``wait_seconds``; the run continues.
        """
        begun = self._client.run_migration(older_than=older_than, limit=limit)
        pause, waited = POLL_SECONDS, 0.0
        while True:
            last = (self._client.overview()).last_run
            if last is not None and last.run_id == begun.run_id:
                return last
            if waited >= wait_seconds:
                raise TimeoutError(f"run {begun.run_id} is still in progress after {wait_seconds} s")
            time.sleep(pause)
            waited += pause
            pause = min(2 * pause, LONGEST_POLL_SECONDS)

    def backup_to_srie(self) -> results.BackedUp | results.Begun:
        """Copies documents that have no backup from main to srie; a long copy continues in the service."""
        return self._client.backup()

    def cleanup_temp_data(self, *, wait_seconds: float = 300.0) -> results.LastRun:
        """Removes documents from temp that main and srie both hold: the last step of a move, done by the mover."""
        return self.migrate_expired_data(wait_seconds=wait_seconds)
