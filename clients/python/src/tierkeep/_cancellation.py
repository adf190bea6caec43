"""Requests that give their connection back when the call that waits for them is cancelled."""

from __future__ import annotations

import asyncio

import httpx

# The event loop refers to its tasks weakly.
_unfinished: set[asyncio.Task[httpx.Response]] = set()


async def to_its_end(http: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """The answer to ``request``.

    Where the calling task is cancelled, the request is cancelled too, unless its connection is just being given back:
    httpcore protects that against the cancellation of anyio's scopes alone, and a cancelled asyncio task would leave
    the connection taken for good. Source of the event's name: httpcore's extension ``trace``.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # Another event loop, whose tasks are cancelled by scopes.
        return await http.send(request)
    is_ending = False

    async def trace(event: str, _: object) -> None:
        nonlocal is_ending
        is_ending = is_ending or event.endswith(".response_closed.started")

    request.extensions["trace"] = trace
    sending = asyncio.create_task(http.send(request))
    _unfinished.add(sending)
    sending.add_done_callback(_finished)
    try:
        return await asyncio.shield(sending)
    except asyncio.CancelledError:
        if not is_ending:
            sending.cancel()
        raise


def _finished(sending: asyncio.Task[httpx.Response]) -> None:
    """Forgets the task; a cancelled call leaves its error unread, which asyncio would log."""
    _unfinished.discard(sending)
    if not sending.cancelled():
        sending.exception()
