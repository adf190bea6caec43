"""Runs the built binary on seven databases of its own, and looks into these as another program would."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import json
import os
import pathlib
import secrets
import sqlite3
import subprocess
import tempfile
import threading
import time
import uuid
from typing import Any, Iterator

import bson
import httpx
import jwt
import pymongo
import pymongo.collection
import tierkeep

SECRET = "a-secret-of-at-least-thirty-two-bytes!"
ROLES = {
    "external_users": "EXTERNAL_USERS_DB_URL",
    "raseen_temp_user": "RASEEN_TEMP_USER_DB_URL",
    "raseen_main_user": "RASEEN_MAIN_USER_DB_URL",
    "raseen_main_hr": "RASEEN_MAIN_HR_DB_URL",
    "srie_main_user": "SRIE_MAIN_USER_DB_URL",
    "srie_main_hr": "SRIE_MAIN_HR_DB_URL",
    "evaluation_audit": "EVALUATION_AUDIT_DB_URL",
}
# Where users' documents are, and in which collection.
USERS = {
    "external_users": "external_users",
    "raseen_temp_user": "internal_users",
    "raseen_main_user": "internal_users",
    "srie_main_user": "internal_users",
}
BINARY = os.environ["TIERKEEP_BIN"]
MONGODB_URL = os.environ["TIERKEEP_TEST_MONGODB_URL"]


def mongodb_url(database: str) -> str:
    """The connection string of the replica set, with this database in its path."""
    servers, _, options = MONGODB_URL.partition("?")
    return f"{servers.rstrip('/')}/{database}?{options}"


def token(subject: str, **claims: Any) -> str:
    """A JWT for the subject that is valid, unless a claim says otherwise."""
    now = int(time.time())
    body = {"sub": subject, "type": "access", "iat": now, "exp": now + 3600} | claims
    return jwt.encode({k: v for k, v in body.items() if v is not None}, SECRET, "HS256")


class _GitHub(http.server.BaseHTTPRequestHandler):
    """Knows tokens that start with `good`, fails for those that start with `away`, refuses the others."""

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "").rpartition(" ")[2]
        status = 200 if given.startswith("good") else 500 if given.startswith("away") else 401
        body = json.dumps({"id": 7, "login": "octocat"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def github() -> Iterator[str]:
    """The address of a GitHub on loopback."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _GitHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


class Deployment:
    """Seven databases and the environment that leads to them."""

    def __init__(self, backend: str, github_url: str) -> None:
        self.backend = backend
        self._directory = tempfile.TemporaryDirectory()
        self.directory = pathlib.Path(self._directory.name)
        self.environment = {
            "SECRET_KEY": SECRET,
            "GITHUB_API_URL": github_url,
            "TIERKEEP_LOG": "json",
            "TIERKEEP_PUBLIC_RATE": "100000",
            "TIERKEEP_PUBLIC_BURST": "100000",
            "TIERKEEP_PUBLIC_NEW_USERS": "1000000",
        }
        self._names = {}
        if backend == "sqlite":
            self.environment["TIERKEEP_DATA_DIR"] = str(self.directory / "data")
        else:
            unique = uuid.uuid4().hex[:12]
            for role, variable in ROLES.items():
                self._names[role] = f"p{unique}_{role}"
                self.environment[variable] = mongodb_url(self._names[role])
            self._client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(MONGODB_URL)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs one command to its end."""
        return subprocess.run(
            [BINARY, *arguments],
            env=self.environment | environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def json(self, *arguments: str) -> Any:
        """What a command that must succeed says."""
        ran = self.run(*arguments, "--json")
        assert ran.returncode == 0, ran
        return json.loads(ran.stdout)

    @contextlib.contextmanager
    def serving(self, until: str = "listening") -> Iterator[Service]:
        """A service on a free port, from the moment it logs this, ended afterwards."""
        process = subprocess.Popen(
            [BINARY, "serve", "--listen", "127.0.0.1:0"],
            env=self.environment,
            cwd=self.directory,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr
            address = None
            for line in process.stderr:
                said = json.loads(line)
                if said["message"] == until:
                    address = said["address"]
                    break
            assert address, "serve ended before it listened"
            # Nothing else reads stderr, and a full pipe would block the service.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            with contextlib.closing(Service(f"http://{address}")) as service:
                yield service
        finally:
            process.terminate()
            process.wait(timeout=30)

    def users(self, role: str) -> pymongo.collection.Collection[dict[str, Any]]:
        """The collection of users in one database of MongoDB."""
        return self._client[self._names[role]][USERS[role]]

    def copy(self, role: str, user_id: str) -> dict[str, Any] | None:
        """The user's document in one database."""
        if self.backend == "mongodb":
            return self.users(role).find_one({"user_id": user_id})
        with self._file(role) as file:
            row = file.execute(
                f"SELECT doc FROM documents_of_{USERS[role]} WHERE user_id = ?", [user_id]
            ).fetchone()
        return bson.decode(row[0]) if row else None

    def where(self, user_id: str) -> set[str]:
        """The databases that hold a document of this user."""
        return {role for role in USERS if self.copy(role, user_id)}

    def shift(self, user_id: str, age: datetime.timedelta) -> None:
        """Makes the user's document in temp as old as this."""
        staged_at = datetime.datetime.now(datetime.timezone.utc) - age
        if self.backend == "mongodb":
            temp = self.users("raseen_temp_user")
            shifted = temp.update_one({"_id": user_id}, {"$set": {"metadata.staged_at": staged_at}})
            # Not what was modified: a document staged in this very millisecond is as old already.
            assert shifted.matched_count == 1
            return
        document = self.copy("raseen_temp_user", user_id)
        assert document
        document["metadata"]["staged_at"] = staged_at
        with self._file("raseen_temp_user") as file:
            changed = file.execute(
                f"UPDATE documents_of_{USERS['raseen_temp_user']} SET doc = ?, staged_at = ? WHERE user_id = ?",
                [bson.encode(document), int(staged_at.timestamp() * 1000), user_id],
            )
            assert changed.rowcount == 1

    def spoil(self, role: str, user_id: str) -> None:
        """Makes the user's document in one database unreadable: its version is a text."""
        if self.backend == "mongodb":
            found = self.users(role)
            # Past the validator, as a program with other settings would.
            found.database.command(
                {
                    "update": found.name,
                    "updates": [{"q": {"user_id": user_id}, "u": {"$set": {"metadata.version": "1"}}}],
                    "bypassDocumentValidation": True,
                }
            )
            return
        document = self.copy(role, user_id)
        assert document
        document["metadata"]["version"] = "1"
        with self._file(role) as file:
            file.execute(
                f"UPDATE documents_of_{USERS[role]} SET doc = ? WHERE user_id = ?",
                [bson.encode(document), user_id],
            )

    @contextlib.contextmanager
    def _file(self, role: str) -> Iterator[sqlite3.Connection]:
        path = self.directory / "data" / f"{role}.db"
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as file, file:
            yield file

    def close(self) -> None:
        """Removes the databases."""
        if self.backend == "mongodb":
            for name in self._names.values():
                self._client.drop_database(name)
            self._client.close()
        self._directory.cleanup()


class Service:
    """A running `serve`."""

    def __init__(self, base: str) -> None:
        self.base = base
        # One try each: what a test sees is the service's first answer.
        self._client = tierkeep.Client(base, retry=tierkeep.Retry(attempts=1))
        self._transport = httpx.HTTPTransport()

    def client(
        self, credentials: tierkeep.Credentials = tierkeep.Credentials(), headers: dict[str, str] | None = None
    ) -> tierkeep.Client:
        """A client with these credentials, which sends these headers besides."""
        if not headers:
            return self._client.with_options(credentials=credentials)
        http = httpx.Client(transport=self._transport, headers=headers, trust_env=False)
        return tierkeep.Client(self.base, credentials=credentials, http=http, retry=tierkeep.Retry(attempts=1))

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()
        self._transport.close()


def internal(subject: str, **claims: Any) -> tierkeep.Credentials:
    """The credentials of an internal user."""
    return tierkeep.Credentials.internal(jwt=token(subject, **claims), github_token="good")


def subject() -> str:
    """A new, unique subject."""
    return secrets.token_hex(12)
