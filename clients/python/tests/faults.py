"""A TCP proxy on loopback that breaks connections where a test says so."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

BLOCK = 1 << 16


class Proxy:
    """Forwards to one address."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._upstream = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.cuts = 0
        """How many answers are still to be swallowed, with their connections."""
        self.swallowed = 0
        """How many were."""
        self.away = False
        """Connections are taken and closed at once, those that are open too."""
        threading.Thread(target=self._accept, daemon=True).start()

    def leave(self) -> None:
        """Breaks every connection and takes no more."""
        self.away = True
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.leave()
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                if self.away:
                    connection.close()
                    continue
                upstream = socket.create_connection(self._upstream)
                self._open |= {connection, upstream}
                for source, sink, answers in ((connection, upstream, False), (upstream, connection, True)):
                    threading.Thread(target=self._forward, args=(source, sink, answers), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(BLOCK):
                if answers and self.cuts > 0:
                    self.cuts -= 1
                    self.swallowed += 1
                    break
                sink.sendall(block)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
            self._open.discard(one)


@contextlib.contextmanager
def proxied(address: str) -> Iterator[Proxy]:
    """A proxy in front of an address such as `127.0.0.1:8080`."""
    proxy = Proxy(address)
    try:
        yield proxy
    finally:
        proxy.close()


class Silent:
    """A server that takes connections and never answers."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connections(self) -> int:
        """How many were taken."""
        return len(self._open)

    def close(self) -> None:
        self._listening.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._open.append(self._listening.accept()[0])
