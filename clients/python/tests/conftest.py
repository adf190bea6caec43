"""A service on each backend, and clients of either kind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import anyio.from_thread
import deployment
import pytest
from support import BACKENDS, Blocking, Connect, Service, running

import tierkeep


@pytest.fixture(scope="session")
def github() -> Iterator[str]:
    with deployment.github() as address:
        yield address


@pytest.fixture(scope="session", params=BACKENDS)
def service(request: pytest.FixtureRequest, github: str) -> Iterator[Service]:
    with running(request.param, github) as service:
        yield service


@pytest.fixture(scope="session")
def embedded(github: str) -> Iterator[Service]:
    """A service for what no backend matters to."""
    with running("sqlite", github) as service:
        yield service


@pytest.fixture(scope="session")
def portal() -> Iterator[anyio.from_thread.BlockingPortal]:
    with anyio.from_thread.start_blocking_portal() as portal:
        yield portal


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest, portal: anyio.from_thread.BlockingPortal) -> Iterator[Connect]:
    """Makes clients of either kind, and closes them."""
    with contextlib.ExitStack() as opened:

        def made(*args: Any, **options: Any) -> tierkeep.Client:
            if request.param == "sync":
                client = tierkeep.Client(*args, **options)
            else:
                client = cast("tierkeep.Client", Blocking(tierkeep.AsyncClient(*args, **options), portal))
            opened.callback(client.close)
            return client

        yield made
