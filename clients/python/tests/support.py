"""What the client's tests share: services of their own, callers, and both clients behind one face."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import anyio.from_thread
import deployment

import tierkeep

BACKENDS = ["sqlite", "mongodb"]
Connect = Callable[..., tierkeep.Client]


class Blocking:
    """An async client whose methods block, so that one test says what both clients do."""

    def __init__(self, client: tierkeep.AsyncClient, portal: anyio.from_thread.BlockingPortal) -> None:
        self._client = client
        self._portal = portal

    def with_options(self, **options: Any) -> Blocking:
        return Blocking(self._client.with_options(**options), self._portal)

    def close(self) -> None:
        self._portal.call(self._client.aclose)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if inspect.isasyncgenfunction(attribute):

            async def collected(*args: Any, **kwargs: Any) -> list[object]:
                return [item async for item in attribute(*args, **kwargs)]

            return lambda *args, **kwargs: self._portal.call(functools.partial(collected, *args, **kwargs))
        if inspect.iscoroutinefunction(attribute):
            return lambda *args, **kwargs: self._portal.call(functools.partial(attribute, *args, **kwargs))
        return attribute


@dataclasses.dataclass(frozen=True)
class Service:
    """A running service and the databases behind it."""

    deployed: deployment.Deployment
    base: str


@contextlib.contextmanager
def running(backend: str, github: str, **environment: str) -> Iterator[Service]:
    """A service with settings of its own."""
    deployed = deployment.Deployment(backend, github)
    try:
        deployed.environment |= {"TIERKEEP_SCAN_INTERVAL": "24h"} | environment
        with deployed.serving() as service:
            yield Service(deployed, service.base)
    finally:
        deployed.close()


def internal(subject: str | None = None) -> tierkeep.Credentials:
    """An internal user that is new."""
    return tierkeep.Credentials.internal(jwt=deployment.token(subject or deployment.subject()), github_token="good")


def public() -> tierkeep.Credentials:
    """A public user that is new."""
    return tierkeep.Credentials.public(deployment.subject())


def role(name: str) -> tierkeep.Credentials:
    """The holder of a role."""
    return tierkeep.Credentials.role(deployment.token(deployment.subject(), role=name))
