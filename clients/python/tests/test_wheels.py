"""The wheels that ``cargo xtask dist`` makes work where there is no repository."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import venv
from collections.abc import Iterator

import pytest
from support import Service

REPOSITORY = pathlib.Path(__file__).parents[3]
PAGE = REPOSITORY / "docs" / "python.md"
PACKAGE = pathlib.Path(__file__).parents[1]
WHEELS = pathlib.Path(os.environ.get("TIERKEEP_WHEELS", PACKAGE / "dist"))
# The page's service, which the tests start on a port of their own.
PAGES_URL = "http://127.0.0.1:8080"


def wheel(kind: str) -> pathlib.Path:
    """The wheel of this platform, or the one that is the client alone."""
    (found,) = WHEELS.glob(f"tierkeep-*-py3-none-{kind}*.whl")
    return found


def installed(folder: pathlib.Path, kind: str) -> pathlib.Path:
    """A fresh environment with the wheel and what it asks for."""
    venv.create(folder, with_pip=True)
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", str(wheel(kind))]
    subprocess.run(install, check=True, timeout=300, cwd=folder)
    return folder


def examples() -> list[str]:
    """The Python of the page's first section, sync, then async, and of the README's trial."""
    first = PAGE.read_text().split("\n## ")[1]
    trial = (REPOSITORY / "README.md").read_text().partition("## Try it\n")[2].partition("\n## ")[0]
    return [text for page in (first, trial) for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]


def run_examples(folder: pathlib.Path, base: str) -> None:
    for text in examples():
        program = text.replace(PAGES_URL, base)
        ran = subprocess.run(
            [str(folder / "bin" / "python"), "-c", program],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert "{'score': 87}" in ran.stdout


@contextlib.contextmanager
def serving(folder: pathlib.Path) -> Iterator[str]:
    """The command that the wheel brought, on a data directory."""
    command = [str(folder / "bin" / "tierkeep"), "serve", "--data-dir", "data", "--listen", "127.0.0.1:0"]
    environment = {"TIERKEEP_GITHUB_VERIFY": "off", "TIERKEEP_LOG": "json"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        listening = next(line for line in process.stderr if '"listening"' in line)
        yield f"http://{re.findall(r'127.0.0.1:[0-9]+', listening)[0]}"
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_the_pages_have_sync_and_async_examples() -> None:
    sync, awaited, trial = examples()
    assert "await" not in sync + trial
    assert "await" in awaited


def test_the_wheel_brings_the_service(tmp_path: pathlib.Path) -> None:
    folder = installed(tmp_path / "venv", "manylinux" if sys.platform == "linux" else "")
    with serving(folder) as base:
        run_examples(folder, base)


def test_the_client_alone_asks_a_service_that_runs(embedded: Service, tmp_path: pathlib.Path) -> None:
    folder = installed(tmp_path / "venv", "any")
    assert not (folder / "bin" / "tierkeep").exists()
    run_examples(folder, embedded.base)


@pytest.mark.parametrize("with_binary", [False, True])
def test_two_builds_are_the_same(tmp_path: pathlib.Path, with_binary: bool) -> None:
    environment = dict(os.environ)
    environment.pop("TIERKEEP_BINARY", None)
    if with_binary:
        # What is in it does not matter: only that it asks for a glibc.
        binary = tmp_path / "tierkeep"
        binary.write_bytes(b"\x7fELF\0GLIBC_2.34\0GLIBC_2.9\0")
        environment["TIERKEEP_BINARY"] = str(binary)
    digests = set[str]()
    for name in ("one", "other"):
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", name]
        subprocess.run([*build, str(PACKAGE)], cwd=tmp_path, env=environment, check=True, timeout=300)
        (made,) = (tmp_path / name).iterdir()
        assert ("manylinux_2_34_" in made.name) == (with_binary and sys.platform == "linux")
        digests.add(hashlib.sha256(made.read_bytes()).hexdigest())
    assert len(digests) == 1
