"""What the tests of deploy/ share: a service under a small load, and what it serves."""

import os
import pathlib
import sys
from typing import Iterator

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "properties"))

import deployment  # noqa: E402
import load  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out the long tests unless `cargo xtask test --full` asks for them."""
    if os.environ.get("TIERKEEP_TEST_FULL") != "1":
        items[:] = [item for item in items if not item.get_closest_marker("full")]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: takes minutes; run by `cargo xtask test --full` alone")


@pytest.fixture(scope="session")
def served() -> Iterator[load.Served]:
    """A service that has answered requests of each kind, moved a document and failed once."""
    with deployment.github() as github:
        deployed = deployment.Deployment("sqlite", github)
        try:
            with deployed.serving() as service:
                served = load.Served(deployed, service)
                served.ask()
                served.move()
                yield served
        finally:
            deployed.close()
