"""Programs from Debian's packages, fetched once and unpacked below `target`; nothing is installed.

Where a package cannot be had the tests that need it fail and say so.
"""

from __future__ import annotations

import os
import pathlib
import platform
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
CACHE = ROOT / "target" / "deploy"
# apt without the system's lists, which may be missing or old; only its sources and keys are the system's.
APT = CACHE / "apt"


class Unreachable(Exception):
    """A package cannot be had here."""


def unpacked(name: str) -> pathlib.Path:
    """The folder with the files of a package."""
    folder = CACHE / "debian" / name
    if folder.is_dir():
        return folder
    if not shutil.which("apt-get"):
        raise Unreachable(f"{name} is a package of Debian, and there is no apt-get here")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        archive = _downloaded(name, pathlib.Path(scratch))
        files = pathlib.Path(scratch) / "files"
        _run(["dpkg-deb", "-x", str(archive), str(files)], scratch)
        # Complete or not at all.
        files.rename(folder)
    return folder


def suite() -> str:
    """The release of Debian that runs here, on whose libraries the binary was linked."""
    release = platform.freedesktop_os_release()
    if release["ID"] != "debian":
        raise Unreachable(
            f"this is {release['ID']}, and the packages are tested on the Debian that they are built on"
        )
    return release["VERSION_CODENAME"]


def installed(name: str) -> str | None:
    """A program of this system, where it has it."""
    return shutil.which(name)


def program(name: str, package: str, variable: str) -> str:
    """A program of a package, or the one that the environment names."""
    return os.environ.get(variable) or _program(unpacked(package), name, variable)


def _program(folder: pathlib.Path, name: str, variable: str) -> str:
    path = folder / "usr" / "bin" / name
    if not path.is_file():
        raise Unreachable(f"{folder} holds no {name}; name one in {variable}")
    return str(path)


def _downloaded(name: str, scratch: pathlib.Path) -> pathlib.Path:
    said = ""
    for own_lists in (False, True):
        try:
            if own_lists:
                _run(["apt-get", *_own(), "update"], scratch)
            _run(["apt-get", *(_own() if own_lists else []), "download", name], scratch)
            (archive,) = scratch.glob("*.deb")
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip()
        else:
            return archive
    raise Unreachable(f"Debian's package {name} cannot be had; is a mirror reachable?\n{said}")


def _own() -> list[str]:
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (APT / folder).mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::State": APT / "state",
        "Dir::Cache": APT / "cache",
        "Dir::State::status": "/var/lib/dpkg/status",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    return [part for name, value in options.items() for part in ("-o", f"{name}={value}")]


def _run(command: list[str], folder: str | pathlib.Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300)
