"""An application on a port of its own, as it runs in production."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import fastapi
import httpx
import uvicorn


@contextlib.contextmanager
def served(app: fastapi.FastAPI, proxies: str = "127.0.0.1") -> Iterator[str]:
    """The address of the application; ``X-Forwarded-For`` of these proxies counts."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", forwarded_allow_ips=proxies, proxy_headers=True)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def headers(jwt: str | None, github_token: str | None = None, address: str | None = None) -> httpx.Headers:
    """What a caller of the application sends."""
    given = {
        "Authorization": jwt and f"Bearer {jwt}",
        "X-GitHub-Token": github_token,
        "X-Forwarded-For": address,
    }
    return httpx.Headers({name: value for name, value in given.items() if value})
