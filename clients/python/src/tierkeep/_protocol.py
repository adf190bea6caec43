"""What both clients do between a method and the network, without any IO.

Owns how a call becomes a request, how an answer becomes a result or an error, and which failure is worth another
attempt. Must never sleep, read a clock or send anything: :mod:`tierkeep._async.client` does, and
:mod:`tierkeep._sync.client` is made from it.
"""

from __future__ import annotations

import dataclasses
import datetime
import email.utils
import json
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote

import httpx

from . import errors
from ._decode import UndecodableError, decode
from .credentials import ANONYMOUS, Credentials, forwarded

R_co = TypeVar("R_co", covariant=True)

Version = int | str
"""A version, a quoted ETag, or ``"*"``."""
Body = Mapping[str, Any] | bytes
"""A JSON object, or its text as UTF-8, which is sent as it is."""

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
PROBLEM = "application/problem+json"
PROXIES = frozenset({502, 504})
"""The statuses with which a proxy says that the service did not answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Empty:
    """An answer without a body, and what it stands for."""

    result: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class Route(Generic[R_co]):
    """One operation of the service, as `/openapi.json` describes it."""

    operation: str
    method: str
    path: str
    returns: Mapping[int, object]
    """What each status carries: a dataclass, ``dict``, ``str``, or :class:`Empty`."""
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    fields: tuple[str, ...] | None = None
    """What a body may hold; ``()`` for any object, ``None`` where the route takes no body."""
    media_type: str = JSON

    @property
    def reads(self) -> bool:
        """The operation changes nothing, whatever is sent."""
        return self.method == "GET"


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """How a call is repeated. Only calls that are safe to repeat are repeated, whatever is set here.

    Reads are repeated when the service or the connection fails. Writes are repeated only when the service is known to
    have changed nothing: it was unavailable, or it answered ``rate_limited`` or ``identity_unavailable``.
    ``Retry-After`` is honoured; if it exceeds the rest of the budget, the error is raised at once.

    >>> Retry(attempts=1)
    Retry(attempts=1, budget_seconds=30.0, backoff_seconds=0.2)
    """

    attempts: int = 3
    """The maximum number of attempts of a call."""
    budget_seconds: float = 30.0
    """The total time that a call may wait between its attempts."""
    backoff_seconds: float = 0.2
    """The maximum delay before the second attempt, unless the service sends one; it doubles with each attempt."""

    def pause(
        self, error: errors.TierkeepError, attempt: int, waited: float, *, reads: bool, chance: float
    ) -> float | None:
        """How long to wait before the next attempt; ``None`` where the error is the caller's.

        ``attempt`` counts from 1, ``chance`` is between 0 and 1.
        """
        if attempt >= self.attempts or not _worth_repeating(error, reads):
            return None
        asked = error.retry_after if isinstance(error, errors.ServiceError) else None
        if asked is None:
            pause = self.backoff_seconds * float(2 ** (attempt - 1)) * chance
        else:
            # Callers that were refused together come back apart.
            pause = asked + self.backoff_seconds * chance
        return pause if waited + pause <= self.budget_seconds else None


def _worth_repeating(error: errors.TierkeepError, reads: bool) -> bool:
    match error:
        case errors.NotSentError() | errors.RateLimitedError() | errors.IdentityUnavailableError():
            return True
        case errors.DatabaseUnavailableError() | errors.NoAnswerError():
            return reads
        case errors.UnexpectedAnswerError():
            return reads and error.status in PROXIES
        case _:
            return False


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """What every request of a client carries."""

    credentials: Credentials = ANONYMOUS
    forwarded_for: str | None = None
    request_id: str | None = None
    timeout: float | None = None

    def headers(self) -> dict[str, str]:
        return self.credentials.headers() | forwarded(self.forwarded_for)


@dataclasses.dataclass(frozen=True, slots=True)
class Call(Generic[R_co]):
    """One call of a route."""

    route: Route[R_co]
    path: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    query: Mapping[str, object] = dataclasses.field(default_factory=dict[str, object])
    if_match: Version | Sequence[Version] | None = None
    if_none_match: Version | Sequence[Version] | None = None
    body: Body | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    """Headers that go out as they are."""
    only_looks: bool = False
    """A call of a changing route that changes nothing, such as a dry run."""

    @property
    def reads(self) -> bool:
        """Repeating the call is always safe."""
        return self.route.reads or self.only_looks

    def request(self, base_url: str, caller: Caller, request_id: str) -> httpx.Request:
        """The request. Raises ``ValueError`` or ``TypeError`` for what cannot be sent."""
        query = {name: value for name, value in self.query.items() if value is not None}
        if "username" in self.route.query and caller.credentials.username is not None:
            query["username"] = caller.credentials.username
        headers = caller.headers() | {"X-Request-Id": request_id, "Accept": "*/*"}
        for name, condition in (("If-Match", self.if_match), ("If-None-Match", self.if_none_match)):
            if condition is not None:
                headers[name] = etags(condition)
        content = None
        if self.body is not None:
            content = self.body if isinstance(self.body, bytes) else written(self.body)
            headers["Content-Type"] = self.route.media_type
        headers |= self.headers
        url = base_url + expanded(self.route.path, self.path)
        sent = {name: str(value) for name, value in query.items()}
        return httpx.Request(self.route.method, url, params=sent or None, headers=headers, content=content)

    def result(self, response: httpx.Response, request_id: str) -> R_co:
        """The result. Raises what the answer says is wrong."""
        answer = Answer(response, request_id)
        route = self.route
        if response.status_code not in route.returns or answer.media_type == PROBLEM:
            raise answer.error()
        kind = route.returns[response.status_code]
        try:
            return cast("R_co", answer.decoded(kind))
        except ValueError as wrong:
            raise errors.UnexpectedAnswerError(str(wrong), answer.status, answer.request_id) from None


class Answer:
    """An answer, and what its headers say."""

    def __init__(self, response: httpx.Response, request_id: str) -> None:
        self._response = response
        self.status = response.status_code
        self.request_id = response.headers.get("X-Request-Id", request_id)

    @property
    def media_type(self) -> str:
        """The type of the body, without its parameters."""
        named: str = self._response.headers.get("Content-Type", "")
        return named.partition(";")[0].strip().lower()

    @property
    def version(self) -> int | None:
        """The version that the ETag quotes."""
        quoted: str = self._response.headers.get("ETag", "").strip('"')
        return int(quoted) if quoted.isascii() and quoted.isdigit() else None

    @property
    def source(self) -> str | None:
        """The database that the answer comes from, where it is not the usual one."""
        return cast("str | None", self._response.headers.get("Tierkeep-Source"))

    @property
    def ambiguous(self) -> bool:
        """The request names a public user and also carries credentials."""
        return "ambiguous" in self._response.headers.get("Tierkeep-Decision", "")

    def decoded(self, kind: object) -> object:
        """The result of this kind."""
        if isinstance(kind, Empty):
            return kind.result
        if kind is str:
            return self._response.text
        body = self._json()
        if kind is dict:
            if not isinstance(body, dict):
                raise UndecodableError("the body is not an object")
            return cast("dict[str, Any]", body)
        result = decode(cast("type[Any]", kind), body)
        from_answer = {
            field.name: field.metadata["answer"](self)
            for field in dataclasses.fields(cast(Any, kind))
            if "answer" in field.metadata
        }
        return dataclasses.replace(result, **from_answer) if from_answer else result

    def _json(self) -> object:
        try:
            body: object = json.loads(self._response.content)
        except (ValueError, RecursionError):
            raise UndecodableError("the body is not JSON") from None
        return body

    def error(self) -> errors.TierkeepError:
        """What the answer says is wrong."""
        if self.media_type != PROBLEM:
            kind = self.media_type or "nothing"
            return errors.UnexpectedAnswerError(f"the answer is {kind}", self.status, self.request_id)
        try:
            problem = decode(errors.Problem, self._json())
        except UndecodableError as wrong:
            return errors.UnexpectedAnswerError(str(wrong), self.status, self.request_id)
        return errors.of_code(problem.code)(
            problem,
            request_id=self.request_id,
            retry_after=retry_after(self._response.headers.get("Retry-After")),
            version=self.version,
        )


def expanded(path: str, values: Mapping[str, str]) -> str:
    """The path with its values, each as one segment.

    >>> expanded("/v1/hr/{collection}/{id}", {"collection": "hr_reports", "id": "a/b:c"})
    '/v1/hr/hr_reports/a%2Fb%3Ac'
    >>> expanded("/v1/user/{section}", {"section": ".."})
    '/v1/user/%2E%2E'
    """
    for name, value in values.items():
        if not value:
            raise ValueError(f"{name} is empty")
        quoted = quote(value, safe="")
        # Segments of dots alone are steps through the path to everything that normalises it.
        quoted = quoted.replace(".", "%2E") if quoted in (".", "..") else quoted
        path = path.replace(f"{{{name}}}", quoted)
    return path


def etags(condition: Version | Sequence[Version]) -> str:
    """The value of a condition's header.

    >>> etags(7), etags("*"), etags('"7"'), etags([7, 8])
    ('"7"', '*', '"7"', '"7", "8"')
    >>> etags("7")
    Traceback (most recent call last):
    ValueError: '7' is neither a version, nor "*", nor a quoted ETag
    """
    match condition:
        case bool():
            raise ValueError(f"{condition} is not a version")
        case int():
            return f'"{condition}"'
        case str():
            if condition == "*" or condition.endswith('"'):
                return condition
            raise ValueError(f'{condition!r} is neither a version, nor "*", nor a quoted ETag')
        case _:
            if not condition:
                raise ValueError("a condition needs at least one version")
            return ", ".join(etags(one) for one in condition)


def written(body: Mapping[str, Any]) -> bytes:
    """The JSON text of a body. Raises ``ValueError`` for NaN and infinities, ``TypeError`` for what JSON lacks."""
    text = json.dumps(dict(body), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def retry_after(value: str | None, now: datetime.datetime | None = None) -> float | None:
    """The seconds of a ``Retry-After``: a number, or a date that a proxy wrote (RFC 9110, section 10.2.3).

    >>> retry_after("5"), retry_after("soon"), retry_after(None)
    (5.0, None, None)
    """
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    now = now or datetime.datetime.now(datetime.UTC)
    return max(0.0, (moment - now).total_seconds())
