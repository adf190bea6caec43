"""For any input to any route, the answer is one that /openapi.json describes, and never a 5xx."""

import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Iterator

import deployment
import pytest

CONFIGURATION = pathlib.Path(__file__).parent / "schemathesis.toml"
# Requests of each kind to each route; beside them those that try the bounds of every parameter.
EXAMPLES = "400" if os.environ.get("TIERKEEP_TEST_FULL") == "1" else "15"
# The same requests each time, so that a red run is the change's; the full form looks for others, and prints its seed.
SEED = [] if os.environ.get("TIERKEEP_TEST_FULL") == "1" else ["--seed", "20261125"]
# Beyond this something hangs.
SECONDS = 3600 if os.environ.get("TIERKEEP_TEST_FULL") == "1" else 300


@pytest.fixture(scope="module")
def embedded(github: str) -> Iterator[deployment.Service]:
    deployed = deployment.Deployment("sqlite", github)
    with deployed.serving() as service:
        yield service
    deployed.close()


def _jwt(**claims: str) -> str:
    return f"Authorization: Bearer {deployment.token(deployment.subject(), **claims)}"


def _headers(caller: str) -> list[str]:
    match caller:
        case "internal":
            return [_jwt(), "X-GitHub-Token: good"]
        case "administrator":
            return [_jwt(role="admin")]
        case "hr":
            return [_jwt(role="hr")]
        case _:
            return []


@pytest.mark.parametrize("caller", ["anonymous", "internal", "administrator", "hr"])
def test_answers_are_as_they_are_described(embedded: deployment.Service, caller: str) -> None:
    with_headers = [argument for header in _headers(caller) for argument in ("--header", header)]
    with tempfile.TemporaryDirectory() as folder:
        tried = _try(embedded, with_headers, folder)
    assert tried.returncode == 0, f"{tried.stdout}\n{tried.stderr}"
    assert "Test cases:" in tried.stdout, tried.stdout


def _try(
    embedded: deployment.Service, with_headers: list[str], folder: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *[sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)],
            *["run", f"{embedded.base}/openapi.json", "--checks", "all", "--no-color"],
            *["--max-examples", EXAMPLES, "--continue-on-failure", "--generation-database", "none"],
            *SEED,
            *with_headers,
        ],
        # It leaves files where it runs.
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
