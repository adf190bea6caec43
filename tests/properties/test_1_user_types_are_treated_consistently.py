"""Property 1 of the mission's testing strategy: a user is treated as one type, whatever else a request says."""

import pytest
from callers import Caller, callers
from deployment import Service
from hypothesis import given
from hypothesis import strategies as st
from tierkeep import errors

# Nothing in these may move the decision.
noise = st.dictionaries(
    st.sampled_from(
        ["X-User-Type", "X-User-Id", "X-Forwarded-User", "X-Original-URL", "X-HTTP-Method-Override"]
    ),
    st.sampled_from(["internal", "external", "admin", "/v1/admin/overview", "DELETE"]),
    max_size=3,
)
MARKS = {"internal": "internal_", "external": "external_"}


@given(caller=callers(), headers=st.lists(noise, min_size=1, max_size=3))
def test_a_user_is_treated_as_one_type(
    service: Service, caller: Caller, headers: list[dict[str, str]]
) -> None:
    for extra in headers:
        client = service.client(caller.credentials(), extra)
        if caller.refusal:
            with pytest.raises(caller.refusal):
                client.explain_route()
            continue
        route = client.explain_route()
        assert (route.user_type, route.user_id) == (caller.decision, caller.user_id)
        assert route.user_id.startswith(MARKS[caller.decision])
        assert route.writes == caller.database
        # The same user on another route, as the same type: not stored is the only difference.
        with pytest.raises(errors.UserNotFoundError):
            client.read_user()
