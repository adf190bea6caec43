"""`cargo xtask release --check` passes on a tree that is ready, and names each thing that is missing."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Iterator

import debian
import packages
import pytest

sys.path.insert(0, str(packages.MAKER.parent))

import dist  # noqa: E402
import release  # noqa: E402

pytestmark = pytest.mark.full

# The tested binary may be a debug build.
LARGEST = 1 << 30
SLOWEST = 30.0
DATE = "2026-01-02T03:04:05+00:00"


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[release.Tree]:
    """A clone of this tree as it is, with its changelog closed and its packages made."""
    folder = tmp_path_factory.mktemp("release")
    root = folder / "tree"
    git("clone", "--quiet", "--shared", str(debian.ROOT), str(root), at=debian.ROOT)
    # What is not committed yet counts too.
    changed = git("ls-files", "--modified", "--others", "--exclude-standard", at=debian.ROOT).split()
    for name in changed:
        source, target = debian.ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.exists():
            shutil.copy(source, target)
        else:
            target.unlink(missing_ok=True)
    log = root / "CHANGELOG.md"
    title = f"## {packages.version()} - 2026-01-02"
    if title.partition(" - ")[0] not in log.read_text():
        log.write_text(log.read_text().replace("## Unreleased", title, 1))
    commit(root)
    tree = release.Tree(root, folder / "dist", LARGEST, SLOWEST)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SOURCE_DATE_EPOCH", str(int(dist.date_of(root).timestamp())))
        packages.make(packages.stripped(folder), tree.dist)
    for kind in ("any", "manylinux_2_34_x86_64"):
        # What a wheel holds is tested with the Python package.
        (tree.dist / f"tierkeep-{tree.version}-py3-none-{kind}.whl").write_text(kind)
    dist.checksums(tree.dist)
    yield tree


def git(*arguments: str, at: pathlib.Path) -> str:
    ran = subprocess.run(["git", *arguments], cwd=at, check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout


def commit(root: pathlib.Path) -> None:
    git("add", "--all", at=root)
    who = ["-c", "user.name=tests", "-c", "user.email=tests@example.org"]
    git(*who, "commit", "--quiet", "--allow-empty", "--message", "Ready", at=root)


@pytest.fixture
def planted(ready: release.Tree, tmp_path: pathlib.Path) -> release.Tree:
    """A copy of the tree that is ready, to take something away from."""
    root = tmp_path / "tree"
    git("clone", "--quiet", "--shared", str(ready.root), str(root), at=ready.root)
    shutil.copytree(ready.dist, tmp_path / "dist")
    return release.Tree(root, tmp_path / "dist", LARGEST, SLOWEST)


def test_a_tree_that_is_ready_can_be_released(ready: release.Tree) -> None:
    assert release.lacks(ready) == dict.fromkeys(release.CHECKS, [])


def edit(tree: release.Tree, path: str, pattern: str, instead: str) -> None:
    file = tree.root / path
    text = file.read_text()
    changed = re.sub(pattern, instead, text, count=1, flags=re.MULTILINE)
    assert changed != text, path
    file.write_text(changed)


@pytest.mark.parametrize(
    ("check", "path", "pattern", "instead", "named"),
    [
        (
            "version",
            "clients/python/pyproject.toml",
            r'^version = ".*"',
            'version = "9.9.9"',
            "pyproject.toml says 9.9.9",
        ),
        (
            "version",
            "deploy/kubernetes/overlays/production/kustomization.yaml",
            "newTag: .*}",
            "newTag: 9.9.9}",
            "9.9.9",
        ),
        (
            "version",
            "Cargo.lock",
            r'name = "tierkeep"\nversion = ".*"',
            'name = "tierkeep"\nversion = "9.9.9"',
            "Cargo.lock",
        ),
        ("changelog", "CHANGELOG.md", r"^## \d.*", "## Unreleased", "no section"),
        ("licences", "deny.toml", r'    "ISC",\n', "", "cargo deny: error[rejected]"),
        (
            "pages",
            "docs/README.md",
            r"\[Embed\]\(embed.md\)",
            "Embed",
            "docs/embed.md is reached by no link",
        ),
        (
            "pages",
            "docs/run.md",
            r"\]\(install.md\)|\]\(operations/alerts.md\)",
            "](nothing.md)",
            "no nothing.md",
        ),
        ("tree", "README.md", "^# tierkeep", "# Tierkeep", "README.md"),
    ],
)
def test_what_a_tree_lacks_is_named(
    planted: release.Tree, check: str, path: str, pattern: str, instead: str, named: str
) -> None:
    edit(planted, path, pattern, instead)
    found = list(release.CHECKS[check](planted))
    assert any(named in lack for lack in found), found


def test_what_packages_lack_is_named(planted: release.Tree) -> None:
    deb = planted.dist / f"tierkeep_{planted.version}-1_amd64.deb"
    deb.write_bytes(b"x" + deb.read_bytes()[1:])
    assert any(deb.name in lack for lack in release.of_packages(planted))
    small = release.Tree(planted.root, planted.dist, 1 << 20)
    assert any("MiB" in lack for lack in release.of_packages(small))
    deb.unlink()
    (lack,) = release.of_packages(planted)
    assert deb.name in lack


def test_a_service_that_starts_too_slowly_is_named(planted: release.Tree) -> None:
    assert list(release.of_start(planted)) == []
    (lack,) = release.of_start(release.Tree(planted.root, planted.dist, LARGEST, 0.001))
    assert "ready after" in lack


def test_a_list_of_contents_that_is_not_the_builds_is_named(planted: release.Tree) -> None:
    path = planted.dist / f"tierkeep-{planted.version}.cdx.json"
    listed = json.loads(path.read_text())
    gone = listed["components"].pop()
    del listed["components"][0]["licenses"]
    path.write_text(json.dumps(listed))
    found = "\n".join(release.of_contents(planted))
    assert f"lacks {gone['name']} {gone['version']}" in found
    assert "no licence" in found


def test_packages_of_another_commit_are_named(planted: release.Tree) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GIT_COMMITTER_DATE", DATE)
        commit(planted.root)
    (lack,) = release.of_contents(planted)
    assert "another commit" in lack


def test_five_lacks_at_once_are_all_named(planted: release.Tree) -> None:
    edit(planted, "clients/python/pyproject.toml", r'^version = ".*"', 'version = "9.9.9"')
    edit(planted, "CHANGELOG.md", r"^## \d.*", "## Unreleased")
    edit(planted, "deny.toml", r'    "ISC",\n', "")
    (planted.dist / "SHA256SUMS").unlink()
    (planted.root / "docs" / "hidden.md").write_text("# Hidden\n")
    found = release.lacks(planted)
    assert {name for name, missing in found.items() if missing} == {
        "tree",
        "version",
        "changelog",
        "licences",
        "packages",
        "pages",
    }
