"""A FastAPI application hands on its callers' credentials and addresses, and passes refusals back."""

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

import asgi
import deployment
import httpx
import pytest
from fastapi import Depends, FastAPI
from support import BACKENDS, Service, running

from tierkeep import AsyncClient, Retry
from tierkeep.fastapi import Tierkeep

TRUSTED = {"TIERKEEP_TRUSTED_PROXIES": "127.0.0.1"}


def application(base: str, **options: Any) -> FastAPI:
    tierkeep = Tierkeep(base, retry=Retry(attempts=1), **options)
    app = FastAPI(lifespan=tierkeep.lifespan)
    tierkeep.install(app, prefix="/my")

    @app.get("/score")
    async def score(client: Annotated[AsyncClient, Depends(tierkeep.client)]) -> object:
        return (await client.read_section("scan_cache")).content["score"]

    return app


@contextlib.contextmanager
def asking(base: str, **options: Any) -> Iterator[httpx.Client]:
    """The application in front of a service."""
    with asgi.served(application(base, **options)) as address, httpx.Client(base_url=address) as http:
        yield http


@pytest.fixture(scope="module", params=BACKENDS)
def trusting(request: pytest.FixtureRequest, github: str) -> Iterator[Service]:
    with running(request.param, github, **TRUSTED) as service:
        yield service


@pytest.fixture(scope="module")
def http(trusting: Service) -> Iterator[httpx.Client]:
    with asking(trusting.base, max_body=1 << 10) as http:
        yield http


def test_both_credentials_are_handed_on(http: httpx.Client) -> None:
    subject = deployment.subject()
    caller = asgi.headers(deployment.token(subject), "good")
    put = http.put("/my/user/scan_cache", headers=caller, json={"score": 7, "ratio": 1.0})
    assert put.status_code == 201
    assert put.json()["user_id"] == f"internal_{subject}"
    assert put.headers["ETag"] == '"1"'
    assert http.get("/score", headers=caller).json() == 7
    assert http.get("/my/user/scan_cache", headers=caller).text == '{"score":7,"ratio":1.0}'
    assert http.get("/my/route", headers=caller).json()["user_type"] == "internal"
    # One of two is not enough, and nothing of one request is left for the next.
    refused = http.get("/my/user", headers=asgi.headers(deployment.token(subject)))
    assert (refused.status_code, refused.json()["code"]) == (401, "credentials_required")
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert http.get("/score").status_code == 401


def test_a_public_name_is_handed_on(http: httpx.Client) -> None:
    name = deployment.subject()
    assert http.put("/my/user/scan_cache", params={"username": name}, json={"score": 1}).status_code == 201
    assert http.get("/score", params={"username": name.upper()}).json() == 1
    ambiguous = http.get(
        "/my/user", params={"username": name}, headers=asgi.headers(deployment.token(deployment.subject()), "good")
    )
    assert ambiguous.headers["Tierkeep-Decision"] == "external; ambiguous"
    for query in ("username=a&username=b", "username=", "username=a%20b"):
        refused = http.get(f"/my/user?{query}")
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_username")


def test_conditions_and_bodies_pass_as_they_are(http: httpx.Client) -> None:
    caller = asgi.headers(deployment.token(deployment.subject()), "good")
    http.put("/my/user/scan_cache", headers=caller, json={"a": 1})

    def put(content: bytes, **headers: str) -> httpx.Response:
        sent = httpx.Headers(caller)
        sent.update({"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()})
        return http.put("/my/user/scan_cache", headers=sent, content=content)

    stale = put(b"{}", If_Match='"7"')
    assert (stale.status_code, stale.json()["code"], stale.headers["ETag"]) == (412, "version_mismatch", '"1"')
    assert put(b"{}", If_Match="7").json()["code"] == "malformed"
    assert put(b'{"a":1,"a":2}').json()["code"] == "invalid_content"
    assert put(b"{").json()["code"] == "malformed"
    assert put(b"{}", Content_Type="text/plain").json()["code"] == "unsupported_media_type"
    large = put(b'{"a":"' + b"b" * (1 << 11) + b'"}')
    assert (large.status_code, large.json()["code"]) == (413, "too_large")
    assert put(b"{}", If_Match='"1", "2"').status_code == 200
    known = httpx.Headers({**caller, "If-None-Match": '"2"'})
    assert http.get("/my/user/scan_cache", headers=known).status_code == 304
    merge = httpx.Headers({**caller, "Content-Type": "application/merge-patch+json"})
    assert http.patch("/my/user/scan_cache", headers=merge, content=b'{"b":2}').status_code == 200
    assert http.delete("/my/user/scan_cache", headers=caller).status_code == 200
    erased = http.delete("/my/user", headers=caller)
    assert (erased.status_code, erased.content) == (204, b"")


def test_request_ids_travel_through(http: httpx.Client) -> None:
    refused = http.get("/score", headers={"X-Request-Id": "from-the-caller"})
    assert refused.headers["X-Request-Id"] == "from-the-caller"
    made = http.get("/my/route", params={"username": "octocat"}, headers={"X-Request-Id": "not visible"})
    assert made.headers["X-Request-Id"] not in ("", "not visible")


@pytest.mark.parametrize("backend", BACKENDS)
def test_public_users_have_limits_of_their_own_by_their_addresses(github: str, backend: str) -> None:
    limits = {"TIERKEEP_PUBLIC_RATE": "1", "TIERKEEP_PUBLIC_BURST": "3"}
    with running(backend, github, **TRUSTED, **limits) as service, asking(service.base) as http:

        def asked(address: str) -> httpx.Response:
            name = deployment.subject()
            return http.get("/my/route", params={"username": name}, headers=asgi.headers(None, address=address))

        of_one = [asked("203.0.113.7") for _ in range(6)]
        assert [it.status_code for it in of_one[:3]] == [200] * 3
        refused = next(it for it in of_one if it.status_code == 429)
        assert refused.json()["code"] == "rate_limited"
        assert int(refused.headers["Retry-After"]) >= 1
        # Other addresses are not limited, and a caller cannot change its address by setting the header itself.
        assert asked("203.0.113.8").status_code == 200
        assert 429 in [asked(f"203.0.113.{number}, 203.0.113.9").status_code for number in range(8)]


def test_a_service_that_is_away_is_a_bad_gateway() -> None:
    with asking("http://127.0.0.1:9") as http:
        answered = http.get("/score", params={"username": "octocat"})
        assert (answered.status_code, answered.json()["code"]) == (502, "database_unavailable")
        assert answered.headers["Content-Type"] == "application/problem+json"
        assert answered.headers["X-Request-Id"]


def test_routes_are_described_with_credentials_that_may_be_left_out(embedded: Service) -> None:
    described = application(embedded.base).openapi()
    put = described["paths"]["/my/user/{section}"]["put"]
    assert put["operationId"] == "replace_section"
    assert {} in put["security"]
    assert {it["name"] for it in put["parameters"]} == {"section", "username", "If-Match", "If-None-Match"}
    assert set(described["components"]["securitySchemes"]) == {"jwt", "github_token"}
