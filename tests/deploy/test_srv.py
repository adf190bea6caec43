"""A connection string that names a record of hosts, `mongodb+srv`, with a resolver and a server of its own."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import deployment
import pytest

WORLD = pathlib.Path(__file__).with_name("resolved.py")
SECRET = "a-secret-of-at-least-thirty-two-bytes!"


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    """What the commands said: a start of each kind through the record, and through names that have none."""
    assert os.geteuid() == 0, "namespaces need root: run these tests as root"
    through = {
        "record": {"TIERKEEP_CLUSTER_URL": "mongodb+srv://cluster.example.test/?tls=false"},
        "none": {"TIERKEEP_CLUSTER_URL": "mongodb+srv://user:hunter2@none.example.test/?tls=false"},
    }
    commands = [
        ("record", ["config", "check"]),
        ("record", ["migrate", "run", "--json"]),
        ("record", ["doctor"]),
        ("record", ["verify", "--json"]),
        ("none", ["migrate", "run"]),
        ("none", ["doctor"]),
    ]
    told = {
        "binary": str(deployment.BINARY),
        "mongod": os.environ["MONGOD_BIN"],
        "document": {
            "user_id": "internal_507f1f77bcf86cd799439011",
            "created_at": "2026-01-01T00:00:00+00:00",
            "last_accessed": "2026-01-01T00:00:00+00:00",
            "data_location": "temp",
            "scan_cache": {"score": 1},
            "metadata": {"storage_location": "RASEEN_TEMP", "backup_status": "pending"},
        },
        "commands": [
            {"arguments": arguments, "environment": {**through[name], "SECRET_KEY": SECRET}}
            for name, arguments in commands
        ],
    }
    ran = subprocess.run(
        ["unshare", "--mount", "--net", "--fork", "--kill-child", sys.executable, str(WORLD), json.dumps(told)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_a_record_of_two_hosts_of_which_one_is_down_leads_to_the_databases(outcomes: dict[str, Any]) -> None:
    check, run, doctor, verify, *_ = outcomes["outcomes"]
    assert check["code"] == 0, check
    assert run["code"] == 0, run
    assert json.loads(run["out"])["moved"] == 1
    assert outcomes["moved"] == 1
    assert doctor["code"] == 0, doctor
    assert verify["code"] == 0 and json.loads(verify["out"])["matched"] == 1, verify


def test_a_name_without_a_record_is_named_with_its_variable_and_without_its_password(
    outcomes: dict[str, Any],
) -> None:
    *_, run, doctor = outcomes["outcomes"]
    assert run["code"] == 3, run
    assert doctor["code"] == 3, doctor
    for ended in (run, doctor):
        said = ended["out"] + ended["err"]
        assert "none.example.test" in said, said
        assert "TIERKEEP_CLUSTER_URL" in said, said
        assert "EXTERNAL_USERS_DB_URL" not in said, said
        assert "hunter2" not in said
