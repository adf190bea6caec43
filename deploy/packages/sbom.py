"""What a build of tierkeep consists of, by cargo's account: as CycloneDX, and as the section that auditors look for."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import subprocess
import tomllib
import uuid
import zlib
from typing import Any

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

PROGRAM = "tierkeep"
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


@dataclasses.dataclass(frozen=True, order=True)
class Crate:
    """A crate in a version."""

    name: str
    version: str


@dataclasses.dataclass
class Build:
    """Every crate of the program, with cargo's account of it and those that it needs."""

    crates: dict[Crate, dict[str, Any]]
    needs: dict[Crate, set[Crate]]
    # Those whose code is in the program; the others ran while it was built.
    linked: set[Crate]
    checksums: dict[Crate, str]

    @property
    def root(self) -> Crate:
        """The program."""
        (found,) = [crate for crate in self.crates if crate.name == PROGRAM]
        return found


def ask(root: pathlib.Path, target: str) -> Build:
    """Asks cargo what a release build is made of."""
    metadata = json.loads(
        _cargo(root, "metadata", "--locked", "--format-version", "1", "--filter-platform", target)
    )
    by_id = {it["id"]: it for it in metadata["packages"]}
    crates = {Crate(it["name"], it["version"]): it for it in by_id.values()}
    # What `cargo metadata` lists is that of all members and all tests together; the tree is the program's alone.
    all_of_it = _tree(root, target, "normal,build")
    needs: dict[Crate, set[Crate]] = {crate: set() for crate in all_of_it}
    for node in metadata["resolve"]["nodes"]:
        crate = Crate(by_id[node["id"]]["name"], by_id[node["id"]]["version"])
        for dependency in node["deps"] if crate in all_of_it else []:
            needed = Crate(by_id[dependency["pkg"]]["name"], by_id[dependency["pkg"]]["version"])
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
            if kinds != {"dev"} and needed in all_of_it and needed != crate:
                needs[crate].add(needed)
    return Build(
        crates={crate: crates[crate] for crate in sorted(all_of_it)},
        needs=needs,
        linked=_tree(root, target, "normal,no-proc-macro"),
        checksums=_checksums(root / "Cargo.lock"),
    )


def cyclonedx(build: Build, at: datetime.datetime) -> str:
    """The build as CycloneDX 1.6. The same build at the same time is the same text."""
    bom = Bom()
    licenses = LicenseFactory()
    components = {}
    for crate, told in build.crates.items():
        of_registry = told["source"] == REGISTRY
        component = Component(
            name=crate.name,
            version=crate.version,
            type=ComponentType.APPLICATION if crate == build.root else ComponentType.LIBRARY,
            bom_ref=f"{crate.name}@{crate.version}",
            purl=PackageURL("cargo", None, crate.name, crate.version) if of_registry else None,
            description=told["description"],
            scope=ComponentScope.REQUIRED if crate in build.linked else ComponentScope.EXCLUDED,
        )
        if told["license"]:
            # Older crates write a slash where they mean OR.
            component.licenses.add(licenses.make_from_string(told["license"].replace("/", " OR ")))
        if checksum := build.checksums.get(crate):
            component.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=checksum))
        components[crate] = component
        if crate == build.root:
            bom.metadata.component = component
        else:
            bom.components.add(component)
    for crate, needed in build.needs.items():
        bom.register_dependency(components[crate], [components[it] for it in sorted(needed)])
    bom.metadata.timestamp = at
    listed = " ".join(f"{crate.name}@{crate.version}" for crate in build.crates)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"{at.isoformat()} {listed}")
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def section(build: Build) -> bytes:
    """The content of the section `.dep-v0`, in which cargo-audit, Syft, Trivy and others look for a binary's crates.

    cargo-auditable writes it while it builds; this is the same for a binary that is built already.
    """
    order = list(build.crates)
    packages = []
    for crate in order:
        one: dict[str, Any] = {"name": crate.name, "version": crate.version}
        one["source"] = "crates.io" if build.crates[crate]["source"] == REGISTRY else "local"
        if crate not in build.linked:
            one["kind"] = "build"
        if needed := sorted(order.index(it) for it in build.needs[crate]):
            one["dependencies"] = needed
        if crate == build.root:
            one["root"] = True
        packages.append(one)
    return zlib.compress(json.dumps({"packages": packages}, separators=(",", ":")).encode(), 9)


def _tree(root: pathlib.Path, target: str, edges: str) -> set[Crate]:
    text = _cargo(
        root,
        "tree",
        "--locked",
        "-p",
        PROGRAM,
        "--edges",
        edges,
        "--target",
        target,
        "--prefix",
        "none",
        "--format",
        "{p}",
    )
    words = [line.split() for line in text.splitlines() if line.strip()]
    return {Crate(line[0], line[1].removeprefix("v")) for line in words}


def _checksums(lock: pathlib.Path) -> dict[Crate, str]:
    packages = tomllib.loads(lock.read_text())["package"]
    return {Crate(it["name"], it["version"]): it["checksum"] for it in packages if "checksum" in it}


def _cargo(root: pathlib.Path, *arguments: str) -> str:
    return subprocess.run(
        ["cargo", *arguments], cwd=root, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
