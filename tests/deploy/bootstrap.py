"""A root of Debian's essential packages, made by debootstrap from the mirror that apt uses here, and commands in it.

Needs root, and takes a minute.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import debian


def root(suite: str, folder: pathlib.Path) -> pathlib.Path:
    """A fresh root with apt, which commands may change."""
    kept = debian.CACHE / f"root-{suite}.tar"
    if not kept.is_file():
        _bootstrap(suite, folder)
        part = kept.with_suffix(".part")
        _call(["tar", "-C", str(folder), "-cf", str(part), "."])
        part.rename(kept)
        return folder
    folder.mkdir(parents=True)
    _call(["tar", "-C", str(folder), "-xf", str(kept)])
    return folder


def run(folder: pathlib.Path, command: str, **environment: str) -> str:
    """Runs a shell's command in a root, as a build of an image does, and returns what it prints."""
    told = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", **environment}
    script = f'mount -t proc proc "{folder}/proc" && exec chroot "{folder}" /bin/sh -c "$1"'
    ran = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh", command],
        env=told,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, f"{command}: {ran.stdout[-2000:]}{ran.stderr[-2000:]}"
    return ran.stdout


def _leave_no_groups() -> None:
    """Removes the control groups that systemd-nspawn leaves: with those of one hierarchy alone, it does not start again."""
    groups = pathlib.Path("/sys/fs/cgroup")
    for name in ("payload", "supervisor"):
        for left in [*groups.glob(name), *groups.glob(f"*/{name}")]:
            for folder, _, _ in os.walk(left, topdown=False):
                os.rmdir(folder)


def _bootstrap(suite: str, folder: pathlib.Path) -> None:
    assert os.geteuid() == 0, "debootstrap needs root: run these tests as root"
    tool = debian.unpacked("debootstrap")
    site, keyring = _mirror()
    _call(
        [
            "sh",
            str(tool / "usr/sbin/debootstrap"),
            "--variant=minbase",
            f"--keyring={keyring}",
            suite,
            str(folder),
            site,
        ],
        DEBOOTSTRAP_DIR=str(tool / "usr/share/debootstrap"),
        PATH=os.environ["PATH"],
    )
    # Names, certificates and proxies as here: what apt needs to reach the mirror.
    for name in ("etc/resolv.conf", "etc/hosts"):
        shutil.copy(f"/{name}", folder / name)
    own = folder / "etc/apt/apt.conf.d/00here"
    ran = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True)
    own.write_text("\n".join(line for line in ran.stdout.splitlines() if "roxy" in line) + "\n")


def _mirror() -> tuple[str, str]:
    """The mirror that apt uses for Debian, and the keys that sign it."""
    ran = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(ORIGIN)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    sites = [line.split()[0] for line in ran.stdout.splitlines() if line.endswith(" Debian")]
    found = next((site for site in sites if "security" not in site), None)
    if found is None:
        raise debian.Unreachable("apt knows no mirror of Debian here")
    keyring = debian.unpacked("debian-archive-keyring") / "usr/share/keyrings/debian-archive-keyring.gpg"
    return found, str(keyring)


def _call(command: list[str], **environment: str) -> None:
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=600,
        env=environment or None,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == 0, f"{command[0]}: {ran.stdout[-2000:]}{ran.stderr[-2000:]}"


def boot(folder: pathlib.Path, script: str, seconds: float) -> str:
    """Boots systemd in a root as the first process of a container, runs a script there, and returns what it prints."""
    nspawn = debian.installed("systemd-nspawn") or debian.program(
        "systemd-nspawn", "systemd-container", "SYSTEMD_NSPAWN_BIN"
    )
    (folder / "root/script").write_text(script)
    printed = folder / "root/printed"
    printed.unlink(missing_ok=True)
    unit = folder / "etc/systemd/system/script.service"
    unit.write_text(
        "[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/bin/bash /root/script\n"
        "ExecStopPost=systemctl --force poweroff\n"
        "StandardOutput=append:/root/printed\nStandardError=append:/root/printed\n"
    )
    wanted = folder / "etc/systemd/system/multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / unit.name).unlink(missing_ok=True)
    (wanted / unit.name).symlink_to(f"/etc/systemd/system/{unit.name}")
    ran = subprocess.run(
        [
            nspawn,
            "--directory",
            folder,
            "--boot",
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--quiet",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    _leave_no_groups()
    assert printed.is_file(), f"systemd did not boot: {ran.stdout[-3000:]}{ran.stderr[-3000:]}"
    return printed.read_text()
