"""What there is to see: users, one whose move fails for good, one document that cannot be moved."""

from __future__ import annotations

import contextlib
import datetime
import time
from typing import Any, Iterable, Iterator

import pymongo
import pymongo.collection

import deployment

DAY = datetime.timedelta(hours=25)
# Attempts that fail before a move is given up, and some to spare while documents are parked.
RUNS = 200


class Scene:
    """A deployment and the users in it."""

    def __init__(self, deployed: deployment.Deployment) -> None:
        self.deployed = deployed
        deployed.environment["TIERKEEP_SCAN_INTERVAL"] = "24h"
        deployed.environment["TIERKEEP_RETRY_BACKOFF"] = "10ms"
        assert deployed.run("init").returncode == 0
        self.base = ""
        self.young = deployment.subject()
        self.poisoned = deployment.subject()

    @property
    def main(self) -> pymongo.collection.Collection[dict[str, Any]]:
        return self.deployed.users("raseen_main_user")

    @property
    def temp(self) -> pymongo.collection.Collection[dict[str, Any]]:
        return self.deployed.users("raseen_temp_user")

    def store(self, service: deployment.Service) -> None:
        """Stores two users, as their clients would."""
        for subject, serial in [(self.young, "young"), (self.poisoned, "taken")]:
            client = service.client(deployment.internal(subject))
            content = {"serial": serial, "text": "what is in the document"}
            assert client.replace_section("scan_cache", content).created
        self.deployed.shift(f"internal_{self.poisoned}", DAY)

    def fail(self) -> None:
        """Makes main refuse one of them permanently, and stores documents in temp that cannot be moved."""
        self.main.create_index(
            [("scan_cache.serial", pymongo.ASCENDING)],
            name="of_another_program",
            unique=True,
            partialFilterExpression={"scan_cache.serial": {"$exists": True}},
        )
        self.main.insert_one({"_id": "another", "scan_cache": {"serial": "taken"}})
        self.temp.insert_one({"_id": "<b>odd</b>", "user_id": "nobody", "created_at": "never"})
        for _ in range(RUNS):
            self.deployed.run("migrate", "run")
            if self.deployed.json("status")["failed"] == 1:
                return
        raise AssertionError("the move was never given up")

    def contradict(self) -> None:
        """Puts an older copy back into temp below a newer one in main, and two documents of one user into temp."""
        user = f"internal_{self.poisoned}"
        older = self.temp.find_one({"_id": user})
        assert older
        with_later_content = {"$set": {"scan_cache.serial": "later"}, "$inc": {"metadata.version": 1}}
        self.temp.update_one({"_id": user}, with_later_content)
        self.deployed.run("migrate", "run")
        assert self.deployed.where(user) == {"raseen_main_user", "srie_main_user"}
        self.temp.insert_one(older)
        claimed = {"user_id": f"internal_{deployment.subject()}", "created_at": "2026-01-01T00:00:00"}
        self.temp.insert_many([claimed | {"_id": "one"}, claimed | {"_id": "other"}])
        self.deployed.run("migrate", "run")
        assert self.deployed.json("status")["quarantined"] == 3

    def lose(self, databases: Iterable[str]) -> None:
        """Renames the files of these databases under the running service."""
        for name in databases:
            for file in (self.deployed.directory / "data").glob(f"{name}.db*"):
                file.rename(file.with_name(f"lost-{file.name}"))

    def mend(self) -> None:
        """Takes away what main refused the document for."""
        self.main.drop_index("of_another_program")
        self.main.delete_one({"_id": "another"})

    def admin(self) -> str:
        """A JWT to sign in with."""
        return deployment.token(deployment.subject(), role="admin")

    def moved(self, user_id: str) -> bool:
        """Whether the user's document reaches main within ten seconds."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self.deployed.where(user_id) == {"raseen_main_user", "srie_main_user"}:
                return True
        return False


@contextlib.contextmanager
def shown() -> Iterator[Scene]:
    """A service with one user whose move has failed for good and one whose document is quarantined."""
    with served("mongodb") as prepared:
        prepared.fail()
        yield prepared


@contextlib.contextmanager
def conflict() -> Iterator[Scene]:
    """A service with copies that contradict each other, and with two documents of one user."""
    with served("mongodb") as prepared:
        prepared.contradict()
        yield prepared


@contextlib.contextmanager
def outage(databases: Iterable[str]) -> Iterator[Scene]:
    """A service whose databases of these names became unavailable while it ran."""
    with served("sqlite") as prepared:
        prepared.lose(databases)
        yield prepared


@contextlib.contextmanager
def served(backend: str) -> Iterator[Scene]:
    """A service with two users."""
    with deployment.github() as github:
        deployed = deployment.Deployment(backend, github)
        try:
            prepared = Scene(deployed)
            with deployed.serving() as service:
                prepared.base = service.base
                prepared.store(service)
                yield prepared
        finally:
            deployed.close()
