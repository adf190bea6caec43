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
    """One of the seven databases, as the service shows it."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name
        """Its role, such as ``raseen_temp_user``; the service knows where it is."""

    def ping(self) -> results.DatabaseHealth:
        """Whether the service reaches it."""
        return self._client.database(self.name)

    def count_documents(self) -> int | None:
        """How many documents it holds; ``None`` while it is away. It takes the role admin."""
        databases = (self._client.overview()).databases
        return next(it.documents for it in databases if it.name == self.name)


class UserDatabase(Database):
    """A database of users' documents. What is written to main and srie the mover alone decides."""

    def find_one(self, credentials: Credentials) -> results.User | None:
        """The caller's document, where the current one is in this database."""
        try:
            user = self._client.with_options(credentials=credentials).read_user()
        except errors.UserNotFoundError:
            return None
        found = user.source or _names.LOCATIONS.get(user.data_location or "")
        return user if found == self.name else None

    def find_copy(self, user_id: str) -> results.Copy | None:
        """What is known of the copy in this database, without its content. It takes the role admin."""
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

        Raises :class:`WrongDatabaseError` before anything is written where the caller's data goes elsewhere.
        """
        client = self._client.with_options(credentials=credentials)
        route = client.explain_route()
        if route.writes != self.name:
            raise WrongDatabaseError(route.user_id, self.name, route.writes)
        return client.replace_section(section, content, if_match=if_match)


class HrDatabase(Database):
    """The database of HR records; each write goes to its backup too. It takes the role hr."""

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
    """The database of what was done. It takes the role admin."""

    def find(
        self, *, kind: str | None = None, user: str | None = None
    ) -> Iterator[results.AuditEntry | results.UnreadableEntry]:
        """The audit trail."""
        for entry in self._client.iter_audit(kind=kind, user=user):
            yield entry


class DatabaseConnectionManager:
    """Hands out the seven databases. The connections to them are the service's."""

    def __init__(self, client: Client, *, hr: Credentials | None = None, admin: Credentials | None = None) -> None:
        """``hr`` and ``admin`` are JWTs of these roles, for the databases and methods that take one."""
        self._client = client if admin is None else client.with_options(credentials=admin)
        self._hr = client if hr is None else client.with_options(credentials=hr)

    def get_external_db(self) -> FirstDatabase:
        """Public users."""
        return FirstDatabase(self._client, _names.EXTERNAL_USERS)

    def get_raseen_temp_db(self) -> FirstDatabase:
        """Internal users, for the first 24 hours."""
        return FirstDatabase(self._client, _names.RASEEN_TEMP_USER)

    def get_raseen_main_db(self) -> UserDatabase:
        """Internal users, after that."""
        return UserDatabase(self._client, _names.RASEEN_MAIN_USER)

    def get_raseen_hr_db(self) -> HrDatabase:
        """HR records."""
        return HrDatabase(self._client, _names.RASEEN_MAIN_HR, self._hr)

    def get_srie_main_db(self) -> UserDatabase:
        """The backup of internal users."""
        return UserDatabase(self._client, _names.SRIE_MAIN_USER)

    def get_srie_hr_db(self) -> Database:
        """The backup of HR records, which the service keeps by itself."""
        return Database(self._client, _names.SRIE_MAIN_HR)

    def get_audit_db(self) -> AuditDatabase:
        """The audit trail, migration records and alerts."""
        return AuditDatabase(self._client, _names.EVALUATION_AUDIT)


class UserTypeDetector:
    """Tells internal users from public ones. The service decides; nothing else about a request matters."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def is_internal_user(self, request: Any) -> bool:
        """Whether the service takes the caller of this request for an internal user.

        ``request`` is one of FastAPI, Starlette, Flask or Django, or :class:`~tierkeep.Credentials`. A caller whose
        credentials do not suffice counts as external. Where the service cannot tell, because GitHub or the service
        is away, its error is raised: private data must not fall through to the public database.
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
    """Moves what is older than 24 hours, and keeps the backup. It takes a client with the role admin."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def migrate_expired_data(
        self, *, older_than: str | None = None, limit: int | None = None, wait_seconds: float = 300.0
    ) -> results.LastRun:
        """Moves what is due, with its backup, and waits for the end of the run.

        The service does it every minute by itself. Raises ``TimeoutError`` after ``wait_seconds``; the run goes on.
        """
        begun = self._client.run_migration(older_than=older_than, limit=limit)
        pause, waited = POLL_SECONDS, 0.0
        while True:
            last = (self._client.overview()).last_run
            if last is not None and last.run_id == begun.run_id:
                return last
            if waited >= wait_seconds:
                raise TimeoutError(f"run {begun.run_id} goes on after {wait_seconds} s")
            time.sleep(pause)
            waited += pause
            pause = min(2 * pause, LONGEST_POLL_SECONDS)

    def backup_to_srie(self) -> results.BackedUp | results.Begun:
        """Copies to the backup what main holds without one; it goes on in the service where it takes long."""
        return self._client.backup()

    def cleanup_temp_data(self, *, wait_seconds: float = 300.0) -> results.LastRun:
        """Removes from temp what main and srie both hold: the last step of a move, which the mover takes itself."""
        return self.migrate_expired_data(wait_seconds=wait_seconds)
