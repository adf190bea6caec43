"""What the tests of the dashboard share: seven databases with something to see in them, and a browser."""

import os
import pathlib
import sys
from typing import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "properties"))

import scene  # noqa: E402

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def shown() -> Iterator[scene.Scene]:
    """What the tests look at."""
    with scene.shown() as shown:
        yield shown


@pytest.fixture(scope="session")
def outage() -> Iterator[scene.Scene]:
    """The same without main and the audit database."""
    with scene.outage(["raseen_main_user", "evaluation_audit"]) as shown:
        yield shown


@pytest.fixture(scope="session")
def conflict() -> Iterator[scene.Scene]:
    """Copies that contradict each other."""
    with scene.conflict() as shown:
        yield shown


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium with a profile of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM_BIN"], args=FLAGS)
        yield browser
        browser.close()
