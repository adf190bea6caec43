"""The client. One method for each operation, named as the service names it in ``/openapi.json``."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

import anyio
import httpx

from .. import _routes as routes
from .. import errors, results
from .._cancellation import to_its_end
from .._protocol import Body, Call, Caller, Retry, Version
from ..credentials import ANONYMOUS, Credentials

R = TypeVar("R")
Versions = Version | Sequence[Version]

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_TIMEOUT = 65.0
"""Longer than the service's own time limit for a request."""
CONNECT_TIMEOUT = 5.0
RETRY = Retry()


class AsyncClient:
    """A client of one service, for any number of tasks concurrently.

    It is a context manager; :meth:`with_options` gives clients for other callers that share its connections.

    >>> import asyncio
    >>> async def scores(url: str) -> float:
    ...     async with AsyncClient(url, credentials=Credentials.public("octocat")) as client:
    ...         await client.replace_section("scan_cache", {"score": 87})
    ...         section = await client.read_section("scan_cache")
    ...         return section.content["score"]
    >>> asyncio.run(scores(service_url))
    87
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        credentials: Credentials = ANONYMOUS,
        timeout: float = DEFAULT_TIMEOUT,
        retry: Retry = RETRY,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """A client of the service at ``base_url``.

        ``timeout`` is in seconds, for each attempt. ``http`` is an httpx client with limits, proxies and TLS settings
        of your own; the caller closes it.
        """
        self._base_url = base_url.rstrip("/")
        self._caller = Caller(credentials=credentials, timeout=timeout)
        self._retry = retry
        self._owned = http is None
        # As many requests as are made wait for a connection; how long they may take is the callers' to say.
        self._http = http or httpx.AsyncClient(limits=httpx.Limits(max_connections=100, max_keepalive_connections=20))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections that this client opened."""
        if self._owned:
            await self._http.aclose()

    def with_options(
        self,
        *,
        credentials: Credentials | None = None,
        forwarded_for: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
        retry: Retry | None = None,
    ) -> AsyncClient:
        """A client with other options that shares the connections of this one.

        ``forwarded_for`` is the address of the end user; the service accepts it from the proxies in
        ``TIERKEEP_TRUSTED_PROXIES``. ``request_id`` identifies the requests in the service's log.
        """
        caller = self._caller
        client = AsyncClient(
            self._base_url,
            credentials=caller.credentials if credentials is None else credentials,
            timeout=DEFAULT_TIMEOUT,
            retry=self._retry if retry is None else retry,
            http=self._http,
        )
        client._caller = Caller(
            credentials=client._caller.credentials,
            forwarded_for=caller.forwarded_for if forwarded_for is None else forwarded_for,
            request_id=caller.request_id if request_id is None else request_id,
            timeout=caller.timeout if timeout is None else timeout,
        )
        return client

    @property
    def credentials(self) -> Credentials:
        """Who asks."""
        return self._caller.credentials

    # Users

    @overload
    async def read_user(self, *, if_match: Versions | None = None) -> results.User: ...
    @overload
    async def read_user(self, *, if_match: Versions | None = None, if_none_match: Versions) -> results.User | None: ...
    async def read_user(
        self, *, if_match: Versions | None = None, if_none_match: Versions | None = None
    ) -> results.User | None:
        """Reads the caller's document; ``None`` if its version is one of ``if_none_match``."""
        return await self._call(Call(routes.READ_USER, if_match=if_match, if_none_match=if_none_match))

    async def erase_user(self, *, if_match: Versions | None = None) -> results.Erasing:
        """Erases the caller's content from every database. For a public user, this requires the role admin."""
        return await self._call(Call(routes.ERASE_USER, if_match=if_match))

    @overload
    async def read_section(self, section: str, *, if_match: Versions | None = None) -> results.Section: ...
    @overload
    async def read_section(
        self, section: str, *, if_match: Versions | None = None, if_none_match: Versions
    ) -> results.Section | None: ...
    async def read_section(
        self, section: str, *, if_match: Versions | None = None, if_none_match: Versions | None = None
    ) -> results.Section | None:
        """Reads a section; ``None`` if the document's version is one of ``if_none_match``."""
        return await self._call(
            Call(routes.READ_SECTION, {"section": section}, if_match=if_match, if_none_match=if_none_match)
        )

    async def replace_section(
        self,
        section: str,
        content: Body,
        *,
        if_match: Versions | None = None,
        if_none_match: Literal["*"] | None = None,
    ) -> results.Changed:
        """Replaces a section; creates the user if necessary.

        ``if_match`` makes the write conditional on the document's version, ``if_none_match="*"`` on a missing document.
        """
        return await self._call(
            Call(
                routes.REPLACE_SECTION,
                {"section": section},
                if_match=if_match,
                if_none_match=if_none_match,
                body=content,
            )
        )

    async def patch_section(
        self,
        section: str,
        patch: Body,
        *,
        if_match: Versions | None = None,
        if_none_match: Literal["*"] | None = None,
    ) -> results.Changed:
        """Merges a patch into a section (RFC 7396): ``None`` removes a key, objects are merged, all else replaces."""
        return await self._call(
            Call(
                routes.PATCH_SECTION,
                {"section": section},
                if_match=if_match,
                if_none_match=if_none_match,
                body=patch,
            )
        )

    async def remove_section(self, section: str, *, if_match: Versions | None = None) -> results.Changed:
        """Removes a section. For a public user, this requires a JWT with the role admin."""
        return await self._call(Call(routes.REMOVE_SECTION, {"section": section}, if_match=if_match))

    async def explain_route(self) -> results.RouteDecision:
        """Shows how the caller is identified, and which databases reads and writes go to."""
        return await self._call(Call(routes.EXPLAIN_ROUTE))

    # HR records, with a JWT of the role hr

    async def list_hr_records(
        self, collection: str, *, limit: int | None = None, cursor: str | None = None
    ) -> results.HrPage:
        """Lists a page of a collection, in order of the ids."""
        query = {"limit": limit, "cursor": cursor}
        return await self._call(Call(routes.LIST_HR_RECORDS, {"collection": collection}, query))

    async def iter_hr_records(self, collection: str, *, limit: int | None = None) -> AsyncIterator[results.HrRecord]:
        """Every record of a collection; ``limit`` is the size of a page."""
        cursor = None
        while True:
            page = await self.list_hr_records(collection, limit=limit, cursor=cursor)
            for item in page.items:
                yield item
            if (cursor := page.next_cursor) is None:
                return

    @overload
    async def read_hr_record(
        self, collection: str, id: str, *, if_match: Versions | None = None
    ) -> results.HrRecord: ...
    @overload
    async def read_hr_record(
        self, collection: str, id: str, *, if_match: Versions | None = None, if_none_match: Versions
    ) -> results.HrRecord | None: ...
    async def read_hr_record(
        self,
        collection: str,
        id: str,
        *,
        if_match: Versions | None = None,
        if_none_match: Versions | None = None,
    ) -> results.HrRecord | None:
        """Reads an HR record; ``None`` if its version is one of ``if_none_match``."""
        path = {"collection": collection, "id": id}
        return await self._call(Call(routes.READ_HR_RECORD, path, if_match=if_match, if_none_match=if_none_match))

    async def replace_hr_record(
        self,
        collection: str,
        id: str,
        content: Body,
        *,
        if_match: Versions | None = None,
        if_none_match: Literal["*"] | None = None,
    ) -> results.HrRecord:
        """Creates or replaces an HR record, in main and in its backup."""
        path = {"collection": collection, "id": id}
        return await self._call(
            Call(routes.REPLACE_HR_RECORD, path, if_match=if_match, if_none_match=if_none_match, body=content)
        )

    async def patch_hr_record(
        self,
        collection: str,
        id: str,
        patch: Body,
        *,
        if_match: Versions | None = None,
        if_none_match: Literal["*"] | None = None,
    ) -> results.HrRecord:
        """Merges a patch into an HR record (RFC 7396)."""
        path = {"collection": collection, "id": id}
        return await self._call(
            Call(routes.PATCH_HR_RECORD, path, if_match=if_match, if_none_match=if_none_match, body=patch)
        )

    async def remove_hr_record(self, collection: str, id: str, *, if_match: Versions | None = None) -> None:
        """Removes an HR record, from its backup too."""
        path = {"collection": collection, "id": id}
        await self._call(Call(routes.REMOVE_HR_RECORD, path, if_match=if_match))

    # The movement and the backup, with a JWT of the role admin

    async def overview(self) -> results.Overview:
        """The state of the system."""
        return await self._call(Call(routes.OVERVIEW))

    async def explain_user(self, user_id: str) -> results.Explanation:
        """Every copy of one user's document, which one is current, and what happens next."""
        return await self._call(Call(routes.EXPLAIN_USER, {"user_id": user_id}))

    async def list_migrations(
        self,
        *,
        status: str | None = None,
        user: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> results.Migrations:
        """Lists a page of migration records, in the order in which their documents entered temp."""
        query = {"status": status, "user": user, "limit": limit, "cursor": cursor}
        return await self._call(Call(routes.LIST_MIGRATIONS, query=query))

    async def iter_migrations(
        self, *, status: str | None = None, user: str | None = None, limit: int | None = None
    ) -> AsyncIterator[results.Migration]:
        """Every migration record, in the same order; ``limit`` is the size of a page."""
        cursor = None
        while True:
            page = await self.list_migrations(status=status, user=user, limit=limit, cursor=cursor)
            for item in page.items:
                yield item
            if (cursor := page.next_cursor) is None:
                return

    @overload
    async def run_migration(
        self, *, dry_run: Literal[False] = False, older_than: str | None = None, limit: int | None = None
    ) -> results.Begun: ...
    @overload
    async def run_migration(
        self, *, dry_run: Literal[True], older_than: str | None = None, limit: int | None = None
    ) -> results.Counted: ...
    async def run_migration(
        self, *, dry_run: bool = False, older_than: str | None = None, limit: int | None = None
    ) -> results.Counted | results.Begun:
        """Moves due documents now, or counts them with ``dry_run``. ``older_than`` is a duration such as ``30m``."""
        body = _given(dry_run=dry_run, older_than=older_than, limit=limit)
        return await self._call(Call(routes.RUN_MIGRATION, body=body, only_looks=dry_run))

    async def retry_migrations(self, *, user_id: str | None = None) -> results.Retried:
        """Makes failed moves pending again, all of them or one user's."""
        return await self._call(Call(routes.RETRY_MIGRATIONS, body=_given(user_id=user_id)))

    async def pause_mover(self) -> results.Pausing:
        """Pauses the mover in every process."""
        return await self._call(Call(routes.PAUSE_MOVER))

    async def resume_mover(self) -> results.Pausing:
        """Resumes the mover in every process."""
        return await self._call(Call(routes.RESUME_MOVER))

    async def verify(
        self,
        *,
        quick: bool = False,
        repair: bool = False,
        prefer: Literal["main", "srie"] | None = None,
        sample: int | None = None,
    ) -> results.Verified | results.Begun:
        """Compares main with its backup, and repairs differences if ``repair`` is true.

        ``quick`` compares versions and stored digests only, without reading content; it excludes ``sample``.

        :class:`~tierkeep.results.Begun` if it exceeds the time limit of a request; it then continues in the service.
        """
        body = _given(quick=quick, repair=repair, prefer=prefer, sample=sample)
        return await self._call(Call(routes.VERIFY, body=body, only_looks=not repair))

    async def restore(
        self,
        *,
        user_id: str | None = None,
        user_ids: Sequence[str] | None = None,
        all: Literal[True] | None = None,
        dry_run: bool = False,
    ) -> results.Restored | results.Begun:
        """Restores users from the backup: one, some, or all with the HR records."""
        named = None if user_ids is None else list(user_ids)
        body = _given(user_id=user_id, user_ids=named, all=all, dry_run=dry_run)
        return await self._call(Call(routes.RESTORE, body=body, only_looks=dry_run))

    async def backup(self) -> results.BackedUp | results.Begun:
        """Copies documents that have no backup from main to srie.

        :class:`~tierkeep.results.Begun` if it exceeds the time limit of a request; it then continues in the service.
        """
        return await self._call(Call(routes.BACKUP))

    async def list_audit(
        self,
        *,
        kind: str | None = None,
        user: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> results.AuditPage:
        """Lists a page of the audit trail, in order of ``seq``."""
        query = {"kind": kind, "user": user, "limit": limit, "cursor": cursor}
        return await self._call(Call(routes.LIST_AUDIT, query=query))

    async def iter_audit(
        self, *, kind: str | None = None, user: str | None = None, limit: int | None = None
    ) -> AsyncIterator[results.AuditEntry | results.UnreadableEntry]:
        """Every entry of the audit trail, in the order of ``seq``; ``limit`` is the size of a page."""
        cursor = None
        while True:
            page = await self.list_audit(kind=kind, user=user, limit=limit, cursor=cursor)
            for item in page.items:
                yield item
            if (cursor := page.next_cursor) is None:
                return

    async def list_alerts(
        self,
        *,
        filter: Literal["open", "all"] | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> results.AlertPage:
        """Lists a page of alerts by kind and subject: open alerts, unless ``filter`` is ``all``."""
        query = {"filter": filter, "limit": limit, "cursor": cursor}
        return await self._call(Call(routes.LIST_ALERTS, query=query))

    async def iter_alerts(
        self, *, filter: Literal["open", "all"] | None = None, limit: int | None = None
    ) -> AsyncIterator[results.Alert]:
        """Every alert, by kind and subject; ``limit`` is the size of a page."""
        cursor = None
        while True:
            page = await self.list_alerts(filter=filter, limit=limit, cursor=cursor)
            for item in page.items:
                yield item
            if (cursor := page.next_cursor) is None:
                return

    # The service itself

    async def live(self) -> results.Health:
        """Whether the process is running."""
        return await self._call(Call(routes.LIVE))

    async def ready(self) -> results.Health:
        """The health of the service; a result is returned for every status."""
        return await self._call(Call(routes.READY))

    async def databases(self) -> results.DatabasesHealth:
        """The health of all seven databases."""
        return await self._call(Call(routes.DATABASES))

    async def database(self, name: str) -> results.DatabaseHealth:
        """The health of one database, by the name of its role."""
        return await self._call(Call(routes.DATABASE, {"name": name}))

    async def metrics(self) -> str:
        """The metrics in Prometheus' text format."""
        return await self._call(Call(routes.METRICS))

    async def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of the service."""
        return await self._call(Call(routes.OPENAPI))

    async def dashboard(self) -> str:
        """The dashboard's sign-in page, as HTML."""
        return await self._call(Call(routes.DASHBOARD))

    async def _call(self, call: Call[R]) -> R:
        return (await self._exchange(call))[1]

    async def _exchange(self, call: Call[R]) -> tuple[httpx.Response, R]:
        """The answer as it came, and as a result."""
        request_id = self._caller.request_id or uuid.uuid4().hex
        request = call.request(self._base_url, self._caller, request_id)
        attempt, waited = 1, 0.0
        while True:
            try:
                response = await self._send(request, request_id)
                return response, call.result(response, request_id)
            except errors.TierkeepError as error:
                chance = random.random()  # noqa: S311 - it spreads callers and guards nothing.
                pause = self._retry.pause(error, attempt, waited, reads=call.reads, chance=chance)
                if pause is None:
                    raise
            await anyio.sleep(pause)
            attempt, waited = attempt + 1, waited + pause

    async def _send(self, request: httpx.Request, request_id: str) -> httpx.Response:
        timeout = httpx.Timeout(self._caller.timeout, connect=CONNECT_TIMEOUT, pool=None)
        request.extensions = {"timeout": timeout.as_dict()}
        try:
            return await to_its_end(self._http, request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.ProxyError) as error:
            raise errors.NotSentError(f"the service cannot be reached: {error}", request_id) from error
        except httpx.TimeoutException as error:
            raise errors.NoAnswerError("the service did not answer in time", request_id) from error
        except httpx.HTTPError as error:
            raise errors.NoAnswerError(f"the connection was lost: {error}", request_id) from error


def _given(**fields: object) -> dict[str, object]:
    """The fields that are set."""
    return {name: value for name, value in fields.items() if value is not None and value is not False}
