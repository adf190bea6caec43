"""Property 5 of the mission's testing strategy: each role is connected as the environment says, or nothing is touched."""

from typing import Any, Iterator

import deployment
import pymongo
import pytest
from deployment import MONGODB_URL, ROLES, Deployment, mongodb_url
from hypothesis import given
from hypothesis import strategies as st


class Names:
    """Database names, and what those are that were used before."""

    def __init__(self) -> None:
        self.client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(MONGODB_URL)
        self.prefix = f"e{deployment.subject()}_"
        # Of each name: the role it was opened as, and the evaluation_audit beside it.
        self.opened: dict[str, tuple[str, str]] = {}

    def exist(self) -> set[str]:
        return {name for name in self.client.list_database_names() if name.startswith(self.prefix)}


@pytest.fixture(scope="module")
def names() -> Iterator[Names]:
    names = Names()
    yield names
    # Some of the environments were good ones.
    assert len(names.opened) >= len(ROLES)
    for name in names.exist():
        names.client.drop_database(name)
    names.client.close()


# A name for each role, from a small set, so that roles sometimes share a database; and some without a name.
environments = st.fixed_dictionaries(
    {
        role: st.one_of(
            st.just(f"{role}_a"),
            st.just(f"{role}_a"),
            st.just(f"{role}_a"),
            st.just(f"{role}_a"),
            st.sampled_from([f"{role}_b", *[f"{other}_a" for other in ROLES], None]),
        )
        for role in ROLES
    }
)


def refusal(chosen: dict[str, str | None], opened: dict[str, tuple[str, str]]) -> set[str]:
    """What the complaint must name; empty when there is nothing to complain of."""
    if missing := {ROLES[role] for role, name in chosen.items() if name is None}:
        return missing
    names = list(chosen.values())
    if shared := {role for role, name in chosen.items() if names.count(name) > 1}:
        return shared
    audit = chosen["evaluation_audit"]
    return {
        role
        for role, name in chosen.items()
        if name in opened and opened[name] != (role, audit)
    }


@given(chosen=environments)
def test_each_role_is_connected_as_the_environment_says(
    names: Names, github: str, chosen: dict[str, str | None]
) -> None:
    chosen = {role: name and names.prefix + name for role, name in chosen.items()}
    deployed = Deployment("sqlite", github)
    del deployed.environment["TIERKEEP_DATA_DIR"]
    for role, name in chosen.items():
        if name:
            deployed.environment[ROLES[role]] = mongodb_url(name)
    before = names.exist()
    ran = deployed.run("init", "--json")
    deployed.close()
    if complaint := refusal(chosen, names.opened):
        assert ran.returncode == 2, ran
        assert any(named in ran.stderr for named in complaint), ran
        assert names.exist() == before
        return
    assert ran.returncode == 0, ran
    for role, name in chosen.items():
        assert name
        names.opened[name] = (role, chosen["evaluation_audit"] or "")
        stamp = names.client[name]["tierkeep_identity"].find_one()
        assert stamp and stamp["role"] == role


@given(given=st.sets(st.sampled_from([*ROLES, "TIERKEEP_CLUSTER_URL"]), max_size=3))
def test_a_data_directory_is_never_mixed_with_connection_strings(
    github: str, given: set[str]
) -> None:
    deployed = Deployment("sqlite", github)
    variables = {ROLES.get(name, name) for name in given}
    for variable in variables:
        deployed.environment[variable] = mongodb_url("")
    ran = deployed.run("init")
    made = {path.stem for path in deployed.directory.glob("data/*.db")}
    deployed.close()
    if variables:
        assert (ran.returncode, made) == (2, set()), ran
        assert all(variable in ran.stderr for variable in variables), ran
    else:
        assert (ran.returncode, made) == (0, set(ROLES)), ran
