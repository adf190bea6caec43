"""Every stable code arrives as its own exception: from a real service where that can be brought to say it."""

from __future__ import annotations

import contextlib
import json
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import deployment
import faults
import httpx
import pytest
from support import BACKENDS, Connect, Service, internal, public, role, running

import tierkeep
from tierkeep import _routes, errors
from tierkeep._protocol import Call, Route

ONCE = tierkeep.Retry(attempts=1)
NOWHERE = "external_nobody-of-this-name"


def of(client: tierkeep.Client, route: Route[Any], **path: str) -> Any:
    """A call that no method makes."""
    return client._call(Call(route, path, body={}))


WRONG_METHOD: Route[None] = Route("none", "POST", "/v1/user", {})
WRONG_TYPE: Route[None] = Route("none", "PUT", "/v1/user/{section}", {}, fields=(), media_type="text/plain")

Provoke = Callable[[tierkeep.Client], object]
# With the credentials that lead there.
PROVOKED: dict[str, tuple[Callable[[], tierkeep.Credentials], Provoke]] = {
    "malformed": (internal, lambda it: it.replace_section("scan_cache", b"{")),
    "credentials_required": (tierkeep.Credentials, lambda it: it.read_user()),
    "role_required": (internal, lambda it: it.overview()),
    "not_found": (internal, lambda it: of(it, Route("none", "GET", "/nowhere", {}))),
    "user_not_found": (internal, lambda it: it.read_user()),
    "section_not_found": (
        internal,
        lambda it: (it.replace_section("scan_cache", {}), it.read_section("analysis_progress")),
    ),
    "unknown_section": (internal, lambda it: it.read_section("none")),
    "unknown_collection": (lambda: role("hr"), lambda it: it.list_hr_records("none")),
    "record_not_found": (lambda: role("hr"), lambda it: it.read_hr_record("hr_reports", "none")),
    "unknown_database": (tierkeep.Credentials, lambda it: it.database("none")),
    "method_not_allowed": (internal, lambda it: of(it, WRONG_METHOD)),
    "mover_paused": (lambda: role("admin"), lambda it: (it.pause_mover(), it.run_migration())),
    "version_mismatch": (internal, lambda it: it.replace_section("scan_cache", {}, if_match=7)),
    "too_large": (public, lambda it: it.replace_section("scan_cache", {"a": "b" * (1 << 20)})),
    "unsupported_media_type": (internal, lambda it: of(it, WRONG_TYPE, section="scan_cache")),
    "invalid_content": (internal, lambda it: it.replace_section("scan_cache", {"$a": 1})),
    "invalid_username": (lambda: tierkeep.Credentials.public("a b"), lambda it: it.read_user()),
    "identity_unavailable": (
        lambda: tierkeep.Credentials.internal(jwt=deployment.token(deployment.subject()), github_token="away"),
        lambda it: it.read_user(),
    ),
}
# What a service must be set to, or be broken for; each has a test below.
ARRANGED = {"ambiguous_identity", "public_writes_off", "rate_limited", "conflict", "database_unavailable"}
# No request brings a sound service to say these in a test's time.
ANSWERED = {"request_timeout": 408, "corrupt_document": 500, "internal": 500, "outcome_unknown": 503}


def test_every_code_is_tried() -> None:
    assert PROVOKED.keys() | ARRANGED | ANSWERED.keys() == set(errors.BY_CODE)


@pytest.mark.parametrize("code", PROVOKED)
def test_a_refusal_is_the_exception_of_its_code(service: Service, connect: Connect, code: str) -> None:
    credentials, provoke = PROVOKED[code]
    client = connect(service.base, credentials=credentials(), retry=ONCE)
    try:
        refused = refusal(client, provoke, code)
        assert refused.nothing_changed
    finally:
        if code == "mover_paused":
            client.resume_mover()
    assert refused.retry_after == (5 if code == "identity_unavailable" else None)


def refusal(client: tierkeep.Client, provoke: Provoke, code: str) -> errors.ServiceError:
    """The exception, which is of the code's class."""
    client = client.with_options(request_id=f"for-{code}")
    with pytest.raises(errors.BY_CODE[code]) as raised:
        provoke(client)
    error = raised.value
    assert (error.problem.code, error.problem.status, error.request_id) == (code, error.status, f"for-{code}")
    assert error.problem.type.endswith(f"/docs/errors/{code}.md")
    assert error.problem.detail in str(error)
    return error


def test_strict_services_refuse_a_name_beside_credentials(github: str, connect: Connect) -> None:
    known = internal()
    both = tierkeep.Credentials(known.jwt, known.github_token, "octocat")
    with running("sqlite", github, TIERKEEP_STRICT_IDENTITY="on") as service:
        refusal(connect(service.base, credentials=both), lambda it: it.read_user(), "ambiguous_identity")


def test_services_may_take_no_public_writes(github: str, connect: Connect) -> None:
    with running("sqlite", github, TIERKEEP_PUBLIC_WRITES="off") as service:
        client = connect(service.base, credentials=public())
        refusal(client, lambda it: it.replace_section("scan_cache", {}), "public_writes_off")


@pytest.fixture(scope="module", params=BACKENDS)
def crippled(request: pytest.FixtureRequest, github: str) -> Iterator[str]:
    """The address of a service that cannot reach external_users."""
    backend: str = request.param
    with contextlib.ExitStack() as stack:
        if backend == "sqlite":
            deployed = deployment.Deployment(backend, github)
            stack.callback(deployed.close)
            assert deployed.run("init").returncode == 0
            file = deployed.directory / "data" / "external_users.db"
            other = stack.enter_context(contextlib.closing(sqlite3.connect(file)))
            # Another program's transaction: the service cannot open the file before its end.
            other.execute("BEGIN EXCLUSIVE")
            yield stack.enter_context(deployed.serving("starting: opening the databases")).base
            return
        servers = deployment.MONGODB_URL.split("//")[1].split("/")[0]
        proxy = stack.enter_context(faults.proxied(servers))
        name = f"p{deployment.subject()}_external_users"
        url = f"mongodb://{proxy.address}/{name}?directConnection=true"
        service = stack.enter_context(running(backend, github, EXTERNAL_USERS_DB_URL=url))
        proxy.leave()
        yield service.base


def test_a_database_that_is_away_is_said_so(crippled: str, connect: Connect) -> None:
    client = connect(crippled, credentials=public(), retry=ONCE)
    refused = refusal(client, lambda it: it.replace_section("scan_cache", {}), "database_unavailable")
    assert (refused.retry_after, refused.nothing_changed) == (5, False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_documents_that_contradict_each_other_are_a_conflict(github: str, connect: Connect, backend: str) -> None:
    with running(backend, github) as service:
        subject = deployment.subject()
        client = connect(service.base, credentials=internal(subject))
        client.replace_section("scan_cache", {"a": 1})
        service.deployed.spoil("raseen_temp_user", f"internal_{subject}")
        refusal(client, lambda it: it.replace_section("scan_cache", {"a": 2}), "conflict")


def answering(status: int, **answer: Any) -> httpx.MockTransport:
    """A service that answers everything alike."""
    return httpx.MockTransport(lambda _: httpx.Response(status, **answer))


@pytest.mark.parametrize("code", ANSWERED)
def test_refusals_of_a_service_in_trouble_are_read(code: str) -> None:
    problem = {"type": "about:blank", "title": "t", "status": ANSWERED[code], "detail": "d", "code": code}
    headers = {"Content-Type": "application/problem+json", "X-Request-Id": "its-own", "Retry-After": "1"}
    transport = answering(ANSWERED[code], content=json.dumps(problem), headers=headers)
    with tierkeep.Client(http=httpx.Client(transport=transport), retry=ONCE) as client:
        with pytest.raises(errors.BY_CODE[code]) as raised:
            client.replace_section("scan_cache", {})
        assert (raised.value.retry_after, raised.value.request_id) == (1.0, "its-own")
        assert raised.value.nothing_changed == (code == "request_timeout")
        copied = pickle.loads(pickle.dumps(raised.value))
        assert (type(copied), copied.problem) == (type(raised.value), raised.value.problem)


def test_a_code_that_is_newer_than_the_client_is_an_error_of_the_service() -> None:
    problem = {"type": "about:blank", "title": "t", "status": 418, "detail": "d", "code": "teapot", "new": 1}
    transport = answering(418, content=json.dumps(problem), headers={"Content-Type": "application/problem+json"})
    with tierkeep.Client(http=httpx.Client(transport=transport)) as client:
        with pytest.raises(tierkeep.ServiceError) as raised:
            client.read_user()
        assert type(raised.value) is tierkeep.ServiceError
        assert raised.value.problem.code == "teapot"


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (502, {"html": "<h1>Bad gateway</h1>"}),
        (200, {"html": "<h1>Sign in</h1>"}),
        (200, {"json": {"status": "ok"}}),
        (200, {"json": {"status": "ok", "reasons": [1]}}),
        (200, {"json": []}),
        (302, {"headers": {"Location": "/login"}}),
        (404, {"content": b"{}", "headers": {"Content-Type": "application/problem+json"}}),
    ],
)
def test_an_answer_that_the_service_never_gives_is_unexpected(status: int, answer: dict[str, Any]) -> None:
    with tierkeep.Client(http=httpx.Client(transport=answering(status, **answer)), retry=ONCE) as client:
        with pytest.raises(tierkeep.UnexpectedAnswerError) as raised:
            client.live()
        assert raised.value.status == status


def test_what_cannot_be_sent_is_refused_before_it_is(embedded: Service, connect: Connect) -> None:
    client = connect(embedded.base, credentials=internal())
    wrong: list[Provoke] = [
        lambda it: it.replace_section("scan_cache", {"a": float("nan")}),
        lambda it: it.replace_section("", {}),
        lambda it: it.replace_section("scan_cache", {}, if_match="7"),
        lambda it: it.replace_section("scan_cache", {}, if_match=[]),
        lambda it: it.with_options(forwarded_for="a host").read_user(),
    ]
    for provoke in wrong:
        with pytest.raises(ValueError):
            provoke(client)
    with pytest.raises(TypeError):
        client.replace_section("scan_cache", {"a": object()})
    with pytest.raises(errors.UserNotFoundError):
        client.read_user()


def test_routes_are_named_once() -> None:
    assert len({route.operation for route in _routes.ALL}) == len(_routes.ALL)
