"""tierkeep in a FastAPI application: forwards the caller's credentials, and turns errors into responses.

.. code-block:: python

    from typing import Annotated

    from fastapi import Depends, FastAPI
    from tierkeep import AsyncClient
    from tierkeep.fastapi import Tierkeep

    tierkeep = Tierkeep("http://127.0.0.1:8080")
    app = FastAPI(lifespan=tierkeep.lifespan)
    tierkeep.install(app, prefix="/evaluation")

    @app.get("/score")
    async def score(client: Annotated[AsyncClient, Depends(tierkeep.client)]) -> object:
        return (await client.read_section("scan_cache")).content["score"]

The service has to trust the application's ``X-Forwarded-For``: list the application's host in the
service's ``TIERKEEP_TRUSTED_PROXIES``; otherwise, all public users share one limit.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import uuid
from collections.abc import AsyncGenerator
from typing import Any, cast

import httpx
from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader, HTTPBearer

from . import _routes as routes
from . import errors
from ._async.client import DEFAULT_TIMEOUT, DEFAULT_URL, AsyncClient
from ._protocol import JSON, MERGE_PATCH, PROBLEM, Call, Retry, Route
from .credentials import Credentials

IN_A_REQUEST = Retry(budget_seconds=1.0)
"""How calls are repeated while a caller waits; ``rate_limited`` is not repeated."""
MAX_BODY = 8 << 20
"""The service's default limit for an internal user's body."""

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_SECURITY = (
    Security(HTTPBearer(auto_error=False, scheme_name="jwt", bearerFormat="JWT", description="An access token.")),
    Security(
        APIKeyHeader(
            name="X-GitHub-Token",
            auto_error=False,
            scheme_name="github_token",
            description="A GitHub token of the JWT's owner.",
        )
    ),
)
_PASSED_ON = ("If-Match", "If-None-Match", "Content-Type", "Content-Encoding")
_PASSED_BACK = (
    "Content-Type",
    "ETag",
    "RateLimit",
    "RateLimit-Policy",
    "Tierkeep-Decision",
    "Tierkeep-Source",
    "X-Request-Id",
)
_USER_ROUTES: tuple[Route[Any], ...] = (
    routes.READ_USER,
    routes.ERASE_USER,
    routes.READ_SECTION,
    routes.REPLACE_SECTION,
    routes.PATCH_SECTION,
    routes.REMOVE_SECTION,
    routes.EXPLAIN_ROUTE,
)


def credentials(request: Request) -> Credentials:
    """The caller's two credentials and public user name, as the request carries them.

    The service verifies the credentials. Only a duplicate name is refused here, as the service would.
    """
    names = request.query_params.getlist("username")
    if len(names) > 1:
        raise _refused(request, errors.InvalidUsernameError, "username is given more than once")
    return Credentials.of(request.headers, names[0] if names else None)


def address(request: Request) -> str | None:
    """The caller's address: the peer address of the connection, never the value of a header.

    Behind a proxy, configure the ASGI server (``uvicorn --proxy-headers --forwarded-allow-ips``).
    """
    host = request.client.host if request.client else ""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return None


def request_id(request: Request) -> str:
    """The caller's ``X-Request-Id``, or a new one; the same throughout a request."""
    known = cast("str | None", getattr(request.state, "tierkeep_request_id", None))
    if known is None:
        given = request.headers.get("X-Request-Id", "")
        known = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request.state.tierkeep_request_id = known
    return known


class Tierkeep:
    """One service, for an application. It holds the connections that all requests share."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retry: Retry = IN_A_REQUEST,
        max_body: int = MAX_BODY,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """The service at ``base_url``; ``max_body`` bounds the bodies that :meth:`router` reads, in bytes."""
        self._client = AsyncClient(base_url, timeout=timeout, retry=retry, http=http)
        self._max_body = max_body

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncGenerator[None, None]:
        """Closes the connections when the application ends."""
        async with self._client:
            yield

    @property
    def anonymous(self) -> AsyncClient:
        """A client without credentials, for routes that need none, such as health."""
        return self._client

    async def client(self, request: Request) -> AsyncClient:
        """A dependency: a client with the credentials of this request's caller."""
        return self._client.with_options(
            credentials=credentials(request), forwarded_for=address(request), request_id=request_id(request)
        )

    def install(self, app: FastAPI, *, prefix: str | None = None) -> None:
        """Turns errors of this package into responses, and mounts the users' routes below ``prefix``."""
        app.add_exception_handler(errors.TierkeepError, answer)
        if prefix is not None:
            app.include_router(self.router(), prefix=prefix)

    def router(self) -> APIRouter:
        """The users' routes: ``/user``, ``/user/{section}`` and ``/route``, with unchanged bodies and ETags."""
        router = APIRouter(tags=["user"], dependencies=list(_SECURITY))
        for route in _USER_ROUTES:
            router.add_api_route(
                route.path.removeprefix("/v1"),
                self._endpoint(route),
                methods=[route.method],
                operation_id=route.operation,
                summary=route.operation.replace("_", " ").capitalize(),
                response_class=Response,
                responses=_described_answers(route),
                openapi_extra=_described(route),
            )
        return router

    def _endpoint(self, route: Route[Any]) -> Any:
        async def endpoint(request: Request, client: AsyncClient = Depends(self.client)) -> Response:  # noqa: B008
            body = None if route.fields is None else await _body(request, self._max_body)
            sent = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
            call = Call(route, request.path_params, body=body, headers=sent)
            response, _ = await client._exchange(call)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
            kept = {name: response.headers[name] for name in _PASSED_BACK if name in response.headers}
            return Response(response.content, response.status_code, kept)

        return endpoint


async def answer(request: Request, error: Exception) -> Response:
    """An error as a response: the service's errors unchanged, all others as 502 or 504."""
    if isinstance(error, errors.ServiceError):
        return _refusal(error)
    known = not isinstance(error, errors.NoAnswerError)
    code = "database_unavailable" if known else "outcome_unknown"
    status = 502 if known else 504
    detail = "the service cannot be reached" if known else "the service did not answer; read before writing again"
    headers = {"X-Request-Id": request_id(request)}
    body = {"type": "about:blank", "title": "No answer", "status": status, "detail": detail, "code": code}
    return JSONResponse(body, status, headers, PROBLEM)


def _refusal(error: errors.ServiceError) -> Response:
    problem = error.problem
    headers = {"X-Request-Id": error.request_id}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if error.version is not None:
        headers["ETag"] = f'"{error.version}"'
    if problem.status == errors.CredentialsRequiredError.status:
        headers["WWW-Authenticate"] = "Bearer"
    body = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
    }
    return JSONResponse(body, problem.status, headers, PROBLEM)


def _refused(request: Request, kind: type[errors.ServiceError], detail: str) -> errors.ServiceError:
    """An error that the service would answer too."""
    page = f"https://github.com/tierkeep/tierkeep/blob/main/docs/errors/{kind.code}.md"
    title = (kind.__doc__ or "").partition(": ")[2].partition(";")[0].rstrip(".").capitalize()
    problem = errors.Problem(page, title, kind.status, detail, kind.code)
    return kind(problem, request_id=request_id(request))


async def _body(request: Request, limit: int) -> bytes:
    """The body; at most the limit is buffered."""
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > limit:
            raise _refused(request, errors.TooLargeError, f"the body is larger than {limit} bytes")
    return bytes(body)


def _described(route: Route[Any]) -> dict[str, Any]:
    """The description of a route's request in the application's OpenAPI document."""
    text = {"type": "string"}
    name = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,39}$"}
    parameters: list[dict[str, Any]] = [{"name": "username", "in": "query", "schema": name}]
    if "{section}" in route.path:
        parameters.append({"name": "section", "in": "path", "required": True, "schema": text})
    parameters += [{"name": header, "in": "header", "schema": text} for header in route.headers]
    # A request that names a public user needs no credentials.
    described: dict[str, Any] = {"parameters": parameters, "security": [{}]}
    if route.fields is not None:
        types = [JSON] if route.media_type == JSON else [MERGE_PATCH, JSON]
        content = {media_type: {"schema": {"type": "object"}} for media_type in types}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _described_answers(route: Route[Any]) -> dict[int | str, dict[str, Any]]:
    """The description of a route's answers in the application's OpenAPI document."""
    shown: dict[int | str, dict[str, Any]] = {}
    for status, kind in route.returns.items():
        shown[status] = {"description": "answered"}
        if isinstance(kind, type):
            shown[status]["content"] = {JSON: {"schema": {"type": "object"}}}
    problem = {"type": "object", "required": ["type", "title", "status", "detail", "code"]}
    shown["default"] = {"description": "a problem (RFC 9457)", "content": {PROBLEM: {"schema": problem}}}
    return shown
