"""What the checks of the Containerfile and the compose file find: a list of findings, empty where all is well."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import debian
import dockerfile_parse
import yaml

FILE = debian.ROOT / "deploy" / "container" / "Containerfile"
COMPOSE = debian.ROOT / "deploy" / "compose.yaml"
IGNORE = debian.ROOT / ".dockerignore"
WRITES_TO = "/var/lib/tierkeep"

Step = dict[str, str]


class Image:
    """The last stage of a Containerfile."""

    def __init__(self, text: str) -> None:
        parsed = dockerfile_parse.DockerfileParser(fileobj=io.BytesIO(text.encode()))
        steps: list[Step] = [step for step in parsed.structure if step["instruction"] != "COMMENT"]
        begins = max(number for number, step in enumerate(steps) if step["instruction"] == "FROM")
        self.bases = [step["value"].split()[0] for step in steps if step["instruction"] == "FROM"]
        self.steps = steps[begins + 1 :]

    def values(self, instruction: str) -> list[str]:
        """The values of every instruction of this name."""
        return [step["value"] for step in self.steps if step["instruction"] == instruction]

    def last(self, instruction: str) -> str:
        """The value that counts; nothing where there is none."""
        return (self.values(instruction) or [""])[-1]

    @property
    def environment(self) -> dict[str, str]:
        """What the image sets."""
        return dict(pair.split("=", 1) for value in self.values("ENV") for pair in value.split())

    @property
    def command(self) -> list[str]:
        """What starts, without a shell."""
        return [*json.loads(self.last("ENTRYPOINT")), *json.loads(self.last("CMD"))]

    @property
    def user(self) -> int:
        """The user that it starts as."""
        return int(self.last("USER").partition(":")[0])


def findings(image: Image, variables: set[str]) -> list[str]:
    """Rules that an image breaks."""
    found = []
    for base in image.bases:
        if not re.search(r":[\w.-]*\d|:.*(bookworm|trixie)", base):
            found.append(f"{base} is whatever is newest")
    if not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", image.last("USER")):
        found.append("its user is not a number other than 0")
    for instruction in ("ENTRYPOINT", "CMD"):
        if not image.last(instruction).startswith("["):
            found.append(f"{instruction} needs a shell")
    if not image.last("ENTRYPOINT").startswith('["/'):
        found.append("its entry point is found by a search path")
    if image.values("HEALTHCHECK"):
        found.append("its health check needs a program in the image")
    if image.last("STOPSIGNAL") != "SIGTERM":
        found.append("it is not stopped by SIGTERM")
    if image.last("VOLUME") != WRITES_TO:
        found.append(f"its volume is not {WRITES_TO}")
    for name, value in image.environment.items():
        if name not in variables:
            found.append(f"the binary reads no {name}")
        if value.startswith("/") and not value.startswith(f"{WRITES_TO}/"):
            found.append(f"{name} lies on no volume")
    port = image.environment.get("TIERKEEP_LISTEN", "").rpartition(":")[2]
    if port not in image.last("EXPOSE").split():
        found.append(f"it does not expose {port}")
    if not image.environment.get("TIERKEEP_LISTEN", "").startswith("0.0.0.0:"):
        found.append("nothing outside can reach it")
    if any(step["instruction"] == "ADD" for step in image.steps):
        found.append("ADD fetches and unpacks")
    return found


def ignored(text: str) -> list[str]:
    """What must stay out of the build's context and does not."""
    lines = text.splitlines()
    return [name for name in (".git", "**/target", ".env", "data") if name not in lines]


def of_compose(compose: dict[str, Any], image: Image, variables: set[str]) -> list[str]:
    """Where the compose file does not fit the image and the binary."""
    service = compose["services"]["tierkeep"]
    found = []
    if (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).resolve() != FILE:
        found.append("it builds another image")
    found += [f"the binary reads no {name}" for name in service["environment"] if name not in variables]
    if {volume.rpartition(":")[2] for volume in service["volumes"]} != {image.last("VOLUME")}:
        found.append("its volume is not the image's")
    for volume in service["volumes"]:
        if volume.partition(":")[0] not in compose["volumes"]:
            found.append(f"no volume {volume}")
    for port in service["ports"]:
        if not port.startswith("127.0.0.1:"):
            found.append(f"{port} is open to the network")
        if port.rpartition(":")[2] not in image.last("EXPOSE").split():
            found.append(f"{port} is not the image's port")
    if service.get("read_only") is not True:
        found.append("its root can be written to")
    for name, told in service["depends_on"].items():
        if name not in compose["services"] or told["condition"] != "service_healthy":
            found.append(f"it does not wait for {name}")
    return found


def compose() -> dict[str, Any]:
    """The compose file."""
    return yaml.safe_load(COMPOSE.read_text())
