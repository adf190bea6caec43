"""Runs the binary as a container runtime would.

It is the first process of namespaces of its own, on a root of Debian's packages that holds no shell.
Needs root, as namespaces and mounts do.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import http.client
import json
import os
import pathlib
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterator, TypeVar

import debian
import deployment

# What the binary is linked with, and the roots that vouch for GitHub's certificate.
PACKAGES = ["libc6", "libgcc-s1", "ca-certificates"]
CLONE_NEWNET = 0x40000000
LAUNCHER = pathlib.Path(__file__).with_name("launcher.py")
MEMORY = pathlib.Path("/sys/fs/cgroup")
T = TypeVar("T")


@dataclasses.dataclass
class Volume:
    """A folder of this machine and where the container sees it."""

    path: str
    source: pathlib.Path
    read_only: bool = False


@dataclasses.dataclass
class Container:
    """What runs, and how."""

    command: list[str]
    environment: dict[str, str]
    user: int
    volumes: list[Volume]
    root: pathlib.Path
    memory: int | None = None
    group: int | None = None


def root(folder: pathlib.Path) -> pathlib.Path:
    """A root with the binary, its libraries and certificates, and nothing else."""
    for package in PACKAGES:
        shutil.copytree(debian.unpacked(package), folder, symlinks=True, dirs_exist_ok=True)
    # Newer releases of Debian have everything below /usr, and these links in a package that is not needed.
    for name in ("lib", "lib64"):
        if not (folder / name).exists():
            (folder / name).symlink_to(f"usr/{name}")
    # What the package's own script does when it is installed.
    certificates = folder / "etc" / "ssl" / "certs" / "ca-certificates.crt"
    certificates.parent.mkdir(parents=True, exist_ok=True)
    roots = sorted((folder / "usr" / "share" / "ca-certificates").rglob("*.crt"))
    certificates.write_bytes(b"".join(root.read_bytes() for root in roots))
    put_binary(folder)
    for name in ("proc", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    assert not list(folder.glob("**/bin/*sh")), "a shell crept in"
    return folder


def put_binary(folder: pathlib.Path) -> None:
    """Puts the binary where the image has it."""
    place = folder / "usr" / "local" / "bin" / "tierkeep"
    place.parent.mkdir(parents=True, exist_ok=True)
    # A link, as the debug binary is large; a copy on another file system.
    try:
        os.link(deployment.BINARY, place)
    except OSError:
        shutil.copy(deployment.BINARY, place)


class Running:
    """A container that runs."""

    def __init__(self, process: subprocess.Popen[str], said: queue.Queue[str | None]) -> None:
        self.process = process
        self._said = said
        self.lines: list[str] = []
        self._inside: ThreadPoolExecutor | None = None

    @property
    def first(self) -> int:
        """The process that is the first one in there."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        deadline = time.monotonic() + 10
        while not (pids := children.read_text().split()):
            assert time.monotonic() < deadline and self.process.poll() is None, self.lines
            time.sleep(0.01)
        return int(pids[0])

    def said(self, message: str, seconds: float = 60) -> dict[str, Any]:
        """Waits for a line of the log."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._said.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                line = None
            assert line is not None, f"{message!r} was never logged:\n" + "\n".join(self.lines[-20:])
            self.lines.append(line.rstrip())
            if line.startswith("{") and json.loads(line).get("message") == message:
                return json.loads(line)

    def inside(self, do: Callable[[], T]) -> T:
        """Does something in the container's network."""
        if self._inside is None:
            network = os.open(f"/proc/{self.first}/ns/net", os.O_RDONLY)
            libc = ctypes.CDLL(None, use_errno=True)

            def enter() -> None:
                # Of this thread alone.
                assert libc.setns(network, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())

            self._inside = ThreadPoolExecutor(1, initializer=enter)
        return self._inside.submit(do).result(timeout=30)

    def get(self, port: int, path: str) -> tuple[int, str]:
        """Asks as a probe does."""

        def ask() -> tuple[int, str]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            finally:
                connection.close()

        return self.inside(ask)

    def until(self, port: int, path: str, status: int, seconds: float = 30) -> str:
        """Asks until this is answered."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found, body = self.get(port, path)
            except OSError as error:
                found, body = 0, str(error)
            if found == status:
                return body
            ended = self.process.poll() is not None
            assert time.monotonic() < deadline and not ended, (path, found, body, self.heard())
            time.sleep(0.1)

    def heard(self) -> list[str]:
        """Every line so far."""
        while not self._said.empty():
            if line := self._said.get():
                self.lines.append(line.rstrip())
        return self.lines

    def stop(self, seconds: float) -> int:
        """Sends SIGTERM to the first process in there, as a runtime does, and says how it ended."""
        os.kill(self.first, signal.SIGTERM)
        return self.process.wait(timeout=seconds)

    def close(self) -> None:
        """Ends it, whatever it does."""
        if self._inside:
            self._inside.shutdown()
        if self.process.poll() is None:
            # The first process takes all others with it, and `unshare` ends then. That process has changed its user,
            # which clears the signal that it would get at the death of its parent.
            os.kill(self.first, signal.SIGKILL)
            self.process.wait(timeout=10)


@contextlib.contextmanager
def running(container: Container) -> Iterator[Running]:
    """The container, from its start, ended afterwards."""
    assert os.geteuid() == 0, "namespaces need root: run these tests as root"
    for volume in container.volumes:
        (container.root / volume.path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    told = {
        "root": str(container.root),
        "command": container.command,
        "environment": container.environment,
        "user": container.user,
        "group": container.group or container.user,
        "read_only": True,
        "volumes": [
            {"path": volume.path, "from": str(volume.source), "read_only": volume.read_only}
            for volume in container.volumes
        ],
    }
    namespaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
    with _limited(container.memory) as join:
        process = subprocess.Popen(
            ["unshare", *namespaces, sys.executable, "-I", str(LAUNCHER), json.dumps(told)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=join,
        )
        said: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            assert process.stderr
            for line in process.stderr:
                said.put(line)
            said.put(None)

        threading.Thread(target=read, daemon=True).start()
        started = Running(process, said)
        try:
            yield started
        finally:
            started.close()


@contextlib.contextmanager
def _limited(memory: int | None) -> Iterator[Callable[[], None] | None]:
    """A control group with this limit, and how to join it."""
    if memory is None:
        yield None
        return
    second = (MEMORY / "cgroup.controllers").exists()
    group = (MEMORY if second else MEMORY / "memory") / f"tierkeep-test-{os.getpid()}-{threading.get_ident()}"
    group.mkdir()
    try:
        (group / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(memory))
        yield lambda: (group / "cgroup.procs").write_text(str(os.getpid())) and None
    finally:
        deadline = time.monotonic() + 10
        while True:
            try:
                group.rmdir()
                break
            except OSError:
                # Until the last process has gone.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


@contextlib.contextmanager
def bridged(container: Running, port: int) -> Iterator[None]:
    """Lets the container reach a server on this machine's loopback, under the same address."""

    def listen() -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        listener.settimeout(0.2)
        return listener

    listener = container.inside(listen)
    done = threading.Event()

    def accept() -> None:
        while not done.is_set():
            try:
                near, _ = listener.accept()
            except TimeoutError:
                continue
            near.settimeout(None)
            far = socket.create_connection(("127.0.0.1", port))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(one, other), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        listener.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
