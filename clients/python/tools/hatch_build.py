"""Puts the binary into the wheel, where ``TIERKEEP_BINARY`` names one; without it the wheel is the client alone.

The wheel's platform is read from the binary: the newest version of glibc that it asks for decides which manylinux it
is for (PEP 600). On other systems it is this machine's.
"""

from __future__ import annotations

import os
import pathlib
import platform
import re
import sys
import sysconfig
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_GLIBC = re.compile(rb"\0GLIBC_(\d+)\.(\d+)")


class Binary(BuildHookInterface):  # type: ignore[type-arg]
    """The hook."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the binary as the command ``tierkeep``."""
        named = os.environ.get("TIERKEEP_BINARY")
        if not named or version == "editable":
            return
        binary = pathlib.Path(named).resolve(strict=True)
        # The file's name is the command's.
        build_data["shared_scripts"] = {str(binary): "tierkeep.exe" if sys.platform == "win32" else "tierkeep"}
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_of(binary)}"


def platform_of(binary: pathlib.Path) -> str:
    """The platform tag of a binary that was built on this machine."""
    if sys.platform != "linux":
        return re.sub(r"[-.]", "_", sysconfig.get_platform())
    versions = [(int(major), int(minor)) for major, minor in _GLIBC.findall(binary.read_bytes())]
    if not versions:
        message = f"{binary} asks for no glibc: which systems it runs on is not known"
        raise ValueError(message)
    major, minor = max(versions)
    return f"manylinux_{major}_{minor}_{platform.machine()}"
