"""What the property tests share: a deployment on each backend, with a service that runs."""

import os
from typing import Iterator

import deployment
import hypothesis
import pytest

# The mission asks for at least a hundred examples of each property.
EXAMPLES = 1000 if os.environ.get("TIERKEEP_TEST_FULL") == "1" else 100

hypothesis.settings.register_profile(
    "tierkeep",
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        # The deployments live as long as the session; examples use users of their own.
        hypothesis.HealthCheck.function_scoped_fixture,
    ],
)
hypothesis.settings.load_profile("tierkeep")


@pytest.fixture(scope="session")
def github() -> Iterator[str]:
    with deployment.github() as address:
        yield address


@pytest.fixture(scope="session", params=["sqlite", "mongodb"])
def deployed(request: pytest.FixtureRequest, github: str) -> Iterator[deployment.Deployment]:
    """Seven databases, without a background mover: only `migrate run` moves documents."""
    deployed = deployment.Deployment(request.param, github)
    deployed.environment["TIERKEEP_SCAN_INTERVAL"] = "24h"
    assert deployed.run("init").returncode == 0
    yield deployed
    deployed.close()


@pytest.fixture(scope="session")
def service(deployed: deployment.Deployment) -> Iterator[deployment.Service]:
    with deployed.serving() as service:
        yield service
