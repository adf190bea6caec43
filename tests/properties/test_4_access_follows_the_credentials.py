"""Property 4 of the mission's testing strategy: who may read and write follows from the credentials alone."""

from typing import Any

import pytest
from callers import Caller, callers, contents, sections
from deployment import Deployment, Service
from hypothesis import given
from tierkeep import errors

@given(caller=callers(), section=sections, content=contents)
def test_only_those_who_may_write_do(
    deployed: Deployment, service: Service, caller: Caller, section: str, content: dict[str, Any]
) -> None:
    client = service.client(caller.credentials())
    if caller.refusal:
        with pytest.raises(caller.refusal) as refused:
            client.replace_section(section, content)
        assert refused.value.nothing_changed
        with pytest.raises(caller.refusal):
            client.read_section(section)
    else:
        client.replace_section(section, content)
        assert client.read_section(section).content == content
    # Whichever user the credentials belong to, nothing of a refused write is stored anywhere.
    internal = deployed.where(f"internal_{caller.subject}")
    assert internal == ({caller.database} if caller.decision == "internal" else set())
    if caller.username is not None:
        assert deployed.where(f"external_{caller.username.lower()}") == {"external_users"}
    # Admin routes take a role that none of these has.
    with pytest.raises(errors.RoleRequiredError if caller.jwt == "valid" else errors.CredentialsRequiredError):
        client.overview()
