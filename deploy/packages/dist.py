"""Makes the packages of a release from a binary: a .deb, a tarball, a list of what is in them (SBOM), and checksums.

    dist.py BINARY FOLDER
    dist.py --audited BINARY OTHER     only writes the binary that packages hold, for the wheel

The same binary and the same commit make the same bytes: dates are that of the commit (SOURCE_DATE_EPOCH, where it is
set), and nothing depends on the machine.
"""

from __future__ import annotations

import datetime
import gzip
import hashlib
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib

import sbom

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
DEPLOY = ROOT / "deploy"
TARGET = "x86_64-unknown-linux-gnu"
GLIBC = re.compile(rb"\0GLIBC_(\d+)\.(\d+)")


def main() -> None:
    """Makes everything."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--audited"]
    binary, folder = (pathlib.Path(argument).resolve() for argument in arguments)
    if "--audited" in sys.argv:
        _auditable(binary, sbom.section(sbom.ask(ROOT, TARGET)), folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    at = date_of(ROOT)
    with tempfile.TemporaryDirectory() as scratch:
        stage = pathlib.Path(scratch)
        build = sbom.ask(ROOT, TARGET)
        (stage / "sbom.json").write_text(sbom.cyclonedx(build, at))
        _auditable(binary, sbom.section(build), stage / "tierkeep")
        _lay_out(stage, version, at)
        made = [
            _deb(stage, folder, version, at),
            _tarball(stage, folder, version, at),
            shutil.copy(stage / "sbom.json", folder / f"tierkeep-{version}.cdx.json"),
        ]
    for path in made:
        sys.stdout.write(f"made {path}\n")
    checksums(folder)


def date_of(root: pathlib.Path) -> datetime.datetime:
    """The date of what is packaged: that of the commit, unless the environment says another."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    if not told:
        log = ["git", "log", "-1", "--format=%ct"]
        told = subprocess.run(log, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout
    return datetime.datetime.fromtimestamp(int(told), datetime.UTC)


def _auditable(binary: pathlib.Path, section: bytes, to: pathlib.Path) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(section)
        file.flush()
        added = ["--remove-section=.dep-v0", f"--add-section=.dep-v0={file.name}"]
        subprocess.run(["objcopy", *added, binary, to], check=True)
    to.chmod(0o755)


def _lay_out(stage: pathlib.Path, version: str, at: datetime.datetime) -> None:
    """Puts together what packages hold besides."""
    for source, name in [
        (DEPLOY / "systemd/tierkeep.service", "tierkeep.service"),
        (DEPLOY / "systemd/credentials.conf", "credentials.conf"),
        (DEPLOY / "prometheus/rules.yaml", "rules.yaml"),
        (DEPLOY / "grafana/tierkeep.json", "dashboard.json"),
        (HERE / "copyright", "copyright"),
        (ROOT / "CHANGELOG.md", "CHANGELOG.md"),
        (ROOT / "LICENSE-MIT", "LICENSE-MIT"),
        (ROOT / "LICENSE-APACHE", "LICENSE-APACHE"),
        (ROOT / "README.md", "README.md"),
    ]:
        shutil.copy(source, stage / name)
    for name in ("postinst.sh", "prerm.sh", "postrm.sh"):
        shutil.copy(HERE / name, stage / name)
    for shell in ("bash", "zsh", "fish"):
        (stage / f"tierkeep.{shell}").write_bytes(_ask(stage, "completions", shell))
    (stage / "tierkeep.1").write_bytes(_ask(stage, "man"))
    _zip(stage / "tierkeep.1", stage / "tierkeep.1.gz")
    (stage / "tierkeep.toml").write_bytes(_ask(stage, "config", "template"))
    changes = f"tierkeep ({version}-1) stable; urgency=medium\n\n  * See https://github.com/tierkeep/tierkeep/blob/main/CHANGELOG.md\n\n"
    changes += (
        f" -- The tierkeep authors <tierkeep@users.noreply.github.com>  {at:%a, %d %b %Y %H:%M:%S +0000}\n"
    )
    (stage / "changelog").write_text(changes)
    _zip(stage / "changelog", stage / "changelog.gz")


def _ask(stage: pathlib.Path, *arguments: str) -> bytes:
    # Nothing of this machine's settings.
    return subprocess.run(
        [stage / "tierkeep", *arguments], cwd=stage, env={}, check=True, stdout=subprocess.PIPE
    ).stdout


def _zip(source: pathlib.Path, target: pathlib.Path) -> None:
    target.write_bytes(gzip.compress(source.read_bytes(), 9, mtime=0))


def _deb(stage: pathlib.Path, folder: pathlib.Path, version: str, at: datetime.datetime) -> pathlib.Path:
    found = [(int(major), int(minor)) for major, minor in GLIBC.findall((stage / "tierkeep").read_bytes())]
    newest = max(found)
    package = folder / f"tierkeep_{version}-1_amd64.deb"
    environment = os.environ | {
        "TIERKEEP_VERSION": version,
        "TIERKEEP_GLIBC": f"{newest[0]}.{newest[1]}",
        "SOURCE_DATE_EPOCH": str(int(at.timestamp())),
    }
    for file in stage.iterdir():
        os.utime(file, (at.timestamp(), at.timestamp()))
    nfpm = pathlib.Path(sys.executable).with_name("nfpm")
    command = [nfpm, "package", "--packager", "deb", "--config", HERE / "nfpm.yaml", "--target", package]
    subprocess.run(command, cwd=stage, env=environment, check=True, stdout=subprocess.DEVNULL)
    return package


def _tarball(stage: pathlib.Path, folder: pathlib.Path, version: str, at: datetime.datetime) -> pathlib.Path:
    name = f"tierkeep-{version}-{TARGET}"
    files = {
        "bin/tierkeep": "tierkeep",
        "share/man/man1/tierkeep.1": "tierkeep.1",
        "share/bash-completion/completions/tierkeep": "tierkeep.bash",
        "share/zsh/site-functions/_tierkeep": "tierkeep.zsh",
        "share/fish/vendor_completions.d/tierkeep.fish": "tierkeep.fish",
        "etc/tierkeep.toml": "tierkeep.toml",
        "lib/systemd/system/tierkeep.service": "tierkeep.service",
        "lib/systemd/system/tierkeep.service.d/credentials.conf.example": "credentials.conf",
        "tierkeep.cdx.json": "sbom.json",
    } | {it: it for it in ("README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE")}
    archive = folder / f"{name}.tar.gz"
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, source in sorted(files.items()):
            member = tarfile.TarInfo(f"{name}/{path}")
            content = (stage / source).read_bytes()
            member.size, member.mtime = len(content), int(at.timestamp())
            member.mode = 0o755 if path.startswith("bin/") else 0o644
            tar.addfile(member, io.BytesIO(content))
    archive.write_bytes(gzip.compress(plain.getvalue(), 9, mtime=0))
    return archive


def checksums(folder: pathlib.Path) -> None:
    """Of everything in the folder, wheels included; checked with `sha256sum --check SHA256SUMS`."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


if __name__ == "__main__":
    main()
