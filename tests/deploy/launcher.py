"""Becomes the program of a container: called by `sandbox.py` as the first process of new namespaces, it never returns.

Gives the process nothing but what a container runtime would: a read-only root, its volumes, /proc, one user, no
capability, no terminal, and the variables that are named.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import pathlib
import socket
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
LAST_CAPABILITY = pathlib.Path("/proc/sys/kernel/cap_last_cap")


def call(result: int, what: str) -> None:
    """Raises where a call of the system failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    """Mounts something."""
    made = LIBC.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, None)
    call(made, f"mount {source} on {target}")


def loopback_up() -> None:
    """Switches the loopback of this network on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack("16xh14x", fcntl.ioctl(link, SIOCGIFFLAGS, request))
        fcntl.ioctl(link, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def main() -> None:
    """Prepares everything and becomes the program."""
    told = json.loads(sys.argv[1])
    root = told["root"]
    loopback_up()
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount(root, root, None, MS_BIND | MS_REC)
    for volume in told["volumes"]:
        target = root + volume["path"]
        mount(volume["from"], target, None, MS_BIND)
        if volume["read_only"]:
            mount(volume["from"], target, None, MS_BIND | MS_REMOUNT | MS_RDONLY)
    mount("proc", f"{root}/proc", "proc", 0)
    if told["read_only"]:
        mount(root, root, None, MS_BIND | MS_REMOUNT | MS_RDONLY)
    last = int(LAST_CAPABILITY.read_text())
    os.chroot(root)
    os.chdir("/")
    for capability in range(last + 1):
        call(LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl")
    os.setgroups([])
    os.setresgid(told["group"], told["group"], told["group"])
    os.setresuid(told["user"], told["user"], told["user"])
    call(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    os.umask(0o022)
    os.execve(told["command"][0], told["command"], told["environment"])


if __name__ == "__main__":
    main()
