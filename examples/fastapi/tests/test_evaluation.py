"""The evaluation service, end to end: over HTTP, in front of the real binary, on both backends."""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import asgi
import deployment
import httpx
import pytest
from support import BACKENDS, running

import evaluation

COMMIT = "0123abc"
FULL = os.environ.get("TIERKEEP_TEST_FULL") == "1"
# As whom schemathesis sends.
CALLERS = ["nobody", "internal", "hr", "admin"] if FULL else ["internal"]
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
]
EXAMPLES = "100" if FULL else "5"
PHASES = "examples,coverage,fuzzing,stateful" if FULL else "coverage,fuzzing"


@contextlib.contextmanager
def evaluating(backend: str, github: str, **settings: str) -> Iterator[httpx.Client]:
    """The application in front of a service."""
    with running(backend, github, TIERKEEP_TRUSTED_PROXIES="127.0.0.1", **settings) as service:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TIERKEEP_URL", service.base)
            app = importlib.reload(evaluation).app
        with asgi.served(app) as address, httpx.Client(base_url=address, timeout=30) as http:
            yield http


@pytest.fixture(scope="module", params=BACKENDS)
def http(request: pytest.FixtureRequest, github: str) -> Iterator[httpx.Client]:
    with evaluating(request.param, github) as http:
        yield http


def caller(subject: str | None = None, **claims: str) -> httpx.Headers:
    github_token = None if claims else "good"
    return asgi.headers(deployment.token(subject or deployment.subject(), **claims), github_token)


def test_scans_are_kept_for_whom_they_are_made(http: httpx.Client) -> None:
    user, name = caller(), {"username": deployment.subject()}
    assert http.get("/scans", headers=user).json() == {}
    stored = http.put("/scans/tierkeep", headers=user, json={"commit": COMMIT, "files": 87})
    assert stored.json() == {"repository": "tierkeep", "score": 87, "stored_in": "raseen_temp_user"}
    http.put("/scans/other", headers=user, json={"commit": COMMIT, "files": 1})
    assert set(http.get("/scans", headers=user).json()) == {"tierkeep", "other"}
    stored = http.put("/scans/tierkeep", params=name, json={"commit": COMMIT, "files": 5})
    assert stored.json()["stored_in"] == "external_users"
    assert http.get("/scans", params=name).json()["tierkeep"]["score"] == 5
    assert http.get("/my/user/scan_cache", params=name).headers["ETag"] == '"1"'
    refused = http.get("/scans")
    assert (refused.status_code, refused.json()["code"]) == (401, "credentials_required")


def test_progress_never_goes_back(http: httpx.Client) -> None:
    user = caller()

    def reach(percent: int) -> int:
        step = {"step": "scoring", "percent": percent}
        return http.post("/progress/tierkeep", headers=user, json=step).status_code

    assert reach(50) == 200
    assert reach(20) == 200
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert set(threads.map(reach, [60, 70, 80, 90])) <= {200, 409}
    reach(100)
    reach(99)
    progress = http.get("/my/user/analysis_progress", headers=user).json()
    assert progress["tierkeep"]["percent"] == 100


def test_progress_of_a_user_who_has_scans_only(http: httpx.Client) -> None:
    user = caller()
    http.put("/scans/tierkeep", headers=user, json={"commit": COMMIT, "files": 1})
    reached = http.post("/progress/tierkeep", headers=user, json={"step": "done", "percent": 100})
    assert reached.json()["tierkeep"]["step"] == "done"


def test_candidates_take_the_role_hr(http: httpx.Client) -> None:
    record_id = deployment.subject()
    kept = http.put(f"/hr/candidates/{record_id}", headers=caller(role="hr"), json={"name": "Ada", "score": 99})
    assert kept.json() == {"id": record_id, "version": 1, "backup": "completed"}
    read = http.get(f"/hr/candidates/{record_id}", headers=caller(role="hr"))
    assert read.json() == {"name": "Ada", "score": 99}
    refused = http.get(f"/hr/candidates/{record_id}", headers=caller(role="admin"))
    assert (refused.status_code, refused.json()["code"]) == (403, "role_required")


def test_administrators_see_the_whole(http: httpx.Client) -> None:
    seen = http.get("/admin", headers=caller(role="admin")).json()
    assert set(seen["documents"]) == set(deployment.ROLES)
    assert seen["failed"] == 0
    assert http.get("/admin", headers=caller(role="hr")).status_code == 403
    assert http.get("/health").json()["status"] == "ok"


@pytest.mark.parametrize("backend", BACKENDS)
def test_public_users_have_limits_of_their_own_by_their_addresses(github: str, backend: str) -> None:
    limits = {"TIERKEEP_PUBLIC_RATE": "1", "TIERKEEP_PUBLIC_BURST": "3"}
    with evaluating(backend, github, **limits) as http:

        def asked(address: str) -> int:
            name = {"username": deployment.subject()}
            return http.get("/scans", params=name, headers=asgi.headers(None, address=address)).status_code

        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            statuses = list(threads.map(asked, ["198.51.100.1"] * 48))
        assert 429 in statuses
        assert asked("198.51.100.2") == 200


@pytest.mark.parametrize("backend", BACKENDS if FULL else BACKENDS[:1])
@pytest.mark.parametrize("kind", CALLERS)
def test_answers_are_as_they_are_described(github: str, backend: str, kind: str, tmp_path: pathlib.Path) -> None:
    sent = {"nobody": httpx.Headers(), "internal": caller()}.get(kind, caller(role=kind))
    named = [argument for name, value in sent.items() for argument in ("--header", f"{name}: {value}")]
    with evaluating(backend, github) as http:
        tried = subprocess.run(
            [
                *[sys.executable, "-m", "schemathesis.cli", "run", f"{http.base_url.join('/openapi.json')}"],
                *["--checks", ",".join(CHECKS), "--phases", PHASES, "--max-examples", EXAMPLES],
                *["--continue-on-failure", "--no-color", "--generation-database", "none", "--seed", "20261129"],
                *(named if kind != "nobody" else []),
            ],
            # It leaves files where it runs.
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
    assert tried.returncode == 0, f"{tried.stdout}\n{tried.stderr}"
    assert "Test cases:" in tried.stdout
