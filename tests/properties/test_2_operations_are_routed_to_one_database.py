"""Property 2 of the mission's testing strategy: operations reach the database of the user's type, and no other."""

from typing import Any

import pytest
from callers import Caller, contents, known_callers, sections
from deployment import Deployment, Service
from hypothesis import given
from hypothesis import strategies as st
from tierkeep import errors

operations = st.lists(
    st.tuples(st.sampled_from(["PUT", "PATCH", "GET"]), sections, contents), min_size=1, max_size=5
)


def merged(old: Any, patch: Any) -> Any:
    """What a JSON Merge Patch makes of a value (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


@given(caller=known_callers(), operations=operations)
def test_every_operation_reaches_the_database_of_the_user_s_type(
    deployed: Deployment,
    service: Service,
    caller: Caller,
    operations: list[tuple[str, str, Any]],
) -> None:
    client = service.client(caller.credentials())
    stored: dict[str, Any] = {}
    for method, section, content in operations:
        if method == "GET":
            if section in stored:
                assert client.read_section(section).content == stored[section]
            else:
                with pytest.raises(errors.SectionNotFoundError if stored else errors.UserNotFoundError):
                    client.read_section(section)
            continue
        write = client.replace_section if method == "PUT" else client.patch_section
        changed = write(section, content)
        assert changed.created == (not stored)
        assert (changed.database, changed.user_id) == (caller.database, caller.user_id)
        stored[section] = (
            content if method == "PUT" else merged(stored.get(section, {}), content)
        )
    assert caller.user_id
    assert deployed.where(caller.user_id) == ({caller.database} if stored else set())
