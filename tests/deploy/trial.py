"""A folder in which the commands of a page are run, with databases, and a service where the page starts one."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import uuid
from typing import Any, Iterator

import book
import deployment
import pymongo
import tierkeep

# The users of the pages.
MOVED = "507f1f77bcf86cd799439011"
CONFLICT = "65a1f0c2d3e4b5a697887766"
PAGES_ADDRESS = "127.0.0.1:8080"
SEPARATOR = "\036"
# A service is started in the background; the page's next command runs once the service listens.
SERVES = re.compile(r"(^|\s)tierkeep (.* )?serve\b")


def prepare(deployed: deployment.Deployment) -> None:
    """Stores a user who has moved, one whose copies contradict each other, and one who is due."""
    data = deployed.directory / "data"
    with deployed.serving() as service:
        for subject in (MOVED, CONFLICT):
            client = service.client(deployment.internal(subject))
            client.replace_section("scan_cache", {"score": 87})
        service.client(tierkeep.Credentials.public("octocat")).replace_section("scan_cache", {"score": 87})
    kept = deployed.directory / "kept"
    kept.mkdir()
    for file in data.glob("raseen_temp_user.db*"):
        shutil.copy(file, kept)
    with deployed.serving() as service:
        service.client(deployment.internal(CONFLICT)).replace_section("scan_cache", {"score": 91})
    assert deployed.json("migrate", "run", "--older-than", "0s")["moved"] == 2
    # Temp comes back from an older copy, without the user who is not to have a conflict.
    for file in data.glob("raseen_temp_user.db*"):
        file.unlink()
    for file in kept.iterdir():
        shutil.copy(file, data)
    assert deployed.run("migrate", "run", "--older-than", "0s").returncode == 0
    shutil.rmtree(kept)


class Trial:
    """A copy of the prepared folder, for the commands of one page."""

    def __init__(self, prepared: deployment.Deployment, folder: pathlib.Path) -> None:
        self.folder = folder
        shutil.copytree(prepared.directory, folder, dirs_exist_ok=True)
        commands = folder / ".bin"
        commands.mkdir()
        (commands / "tierkeep").symlink_to(deployment.BINARY)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.environment = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ} | {
            "PATH": f"{commands}:/usr/local/bin:/usr/bin:/bin",
            "TIERKEEP_LISTEN": self.address,
            "TIERKEEP_LOG": "json",
            "COLUMNS": "200",
        }
        # A page that says --data-dir ./data is about this one too.
        self.data = str(folder / "data")
        self.databases: list[str] = []

    def mongodb(self) -> None:
        """Writes the file of settings that pages about MongoDB name, with databases of the tests' server."""
        unique = uuid.uuid4().hex[:12]
        lines = [f"SECRET_KEY={deployment.SECRET}"]
        for role, variable in deployment.ROLES.items():
            name = f"b{unique}_{role}"
            self.databases.append(name)
            lines.append(f"{variable}={deployment.mongodb_url(name)}")
        file = self.folder / "mongodb.env"
        file.write_text("\n".join(lines) + "\n")
        file.chmod(0o600)
        # A small database of the predecessor, for the page about bringing it in.
        legacy = f"b{unique}_legacy"
        self.databases.append(legacy)
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(deployment.MONGODB_URL)
        user = {
            "user_id": "external_hubot",
            "user_type": "external",
            "username": "hubot",
            "scan_cache": {"score": 87},
        }
        client[legacy]["external_users"].insert_one(user)
        client.close()
        lines += [f"MONGODB_URL={deployment.MONGODB_URL}", f"DATABASE_NAME={legacy}"]
        file = self.folder / "tierkeep.env"
        file.write_text("\n".join(lines) + "\n")
        file.chmod(0o600)

    def script(self, blocks: list[book.Block]) -> tuple[str, list[tuple[book.Block, str, str]]]:
        """What bash runs, and each command with what it is expected to print."""
        lines, expected = ["set -u", "unset HOME"], []
        for block in blocks:
            for command, printed in block.commands():
                expected.append((block, command, printed))
                told = command.replace(PAGES_ADDRESS, self.address).replace(
                    "curl ", "curl --silent --show-error "
                )
                if SERVES.search(command):
                    # It must not share the descriptor whose end is waited for.
                    lines.append(f"{told} 2>>serve.log >/dev/null & SERVES=$!")
                    lines.append(
                        "until grep -q '\"listening\"' serve.log; do kill -0 $SERVES || break; sleep 0.05; done"
                        "; kill -0 $SERVES"
                    )
                else:
                    lines.append(told)
                lines.append(f"printf '{SEPARATOR}%d{SEPARATOR}' $?")
        lines.append('if [ -n "${SERVES-}" ]; then kill $SERVES; wait $SERVES; fi')
        return "\n".join(lines), expected

    def run(self, blocks: list[book.Block]) -> list[str]:
        """Runs the commands of a page in their order; says which ended or printed otherwise than the page says."""
        script, expected = self.script(blocks)
        environment = dict(self.environment)
        if "--data-dir" not in script and "--env-file" not in script:
            environment |= {"TIERKEEP_DATA_DIR": self.data, "SECRET_KEY": deployment.SECRET}
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=300)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        parts = said.split(SEPARATOR)
        findings = []
        for number, (block, command, printed) in enumerate(expected):
            if 2 * number + 1 >= len(parts):
                findings.append(f"{block.place}: {command}: was not reached")
                continue
            actual, status = parts[2 * number], int(parts[2 * number + 1])
            if status != 0 and not (status == 1 and reports(command)):
                findings.append(f"{block.place}: {command}: ended with {status}: {actual.strip()}")
            elif printed.strip() and not book.says(actual, printed):
                findings.append(f"{block.place}: {command}: printed otherwise:\n{actual}")
        return findings

    def close(self) -> None:
        """Removes databases on the server."""
        if self.databases:
            client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(deployment.MONGODB_URL)
            for name in self.databases:
                client.drop_database(name)
            client.close()


def reports(command: str) -> bool:
    """Whether the command ends with 1 when it has found something, which it is there for."""
    return bool(re.search(r"tierkeep (doctor|verify|migrate run)\b", command))


def prepared() -> Iterator[deployment.Deployment]:
    """Databases with something in them, embedded."""
    with deployment.github() as github:
        deployed = deployment.Deployment("sqlite", github)
        deployed.environment["TIERKEEP_SCAN_INTERVAL"] = "24h"
        try:
            prepare(deployed)
            yield deployed
        finally:
            deployed.close()
