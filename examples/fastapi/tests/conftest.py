"""A GitHub for the services behind the application."""

from collections.abc import Iterator

import deployment
import pytest


@pytest.fixture(scope="session")
def github() -> Iterator[str]:
    with deployment.github() as address:
        yield address
