"""Property 2 of the mission's testing strategy: operations reach the database of the user's type, and no other."""

from typing import Any

from callers import Caller, contents, known_callers, sections
from deployment import Deployment, Service
from hypothesis import given
from hypothesis import strategies as st

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
    stored: dict[str, Any] = {}
    for method, section, content in operations:
        path = f"/v1/user/{section}"
        body = None if method == "GET" else content
        headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
        answer = service.ask(method, path, body=body, headers=headers, **caller.credentials())
        if method == "GET":
            expected = 200 if section in stored else 404
            assert answer.status_code == expected, answer.text
            assert expected == 404 or answer.json() == stored[section]
            continue
        assert answer.status_code == (200 if stored else 201), answer.text
        assert answer.json()["database"] == caller.database
        assert answer.json()["user_id"] == caller.user_id
        stored[section] = (
            content if method == "PUT" else merged(stored.get(section, {}), content)
        )
    assert caller.user_id
    assert deployed.where(caller.user_id) == ({caller.database} if stored else set())
