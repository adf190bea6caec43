"""Property 1 of the mission's testing strategy: a user is treated as one type, whatever else a request says."""

from callers import Caller, callers
from deployment import Service
from hypothesis import given
from hypothesis import strategies as st

# Nothing in these may move the decision.
noise = st.dictionaries(
    st.sampled_from(
        ["X-User-Type", "X-User-Id", "X-Forwarded-User", "X-Original-URL", "X-HTTP-Method-Override"]
    ),
    st.sampled_from(["internal", "external", "admin", "/v1/admin/overview", "DELETE"]),
    max_size=3,
)
STATUS = {"internal": 200, "external": 200, "refused": 401, "unavailable": 503}
MARKS = {"internal": "internal_", "external": "external_"}


@given(caller=callers(), headers=st.lists(noise, min_size=1, max_size=3))
def test_a_user_is_treated_as_one_type(
    service: Service, caller: Caller, headers: list[dict[str, str]]
) -> None:
    for extra in headers:
        answer = service.ask("GET", "/v1/route", headers=extra, **caller.credentials())
        assert answer.status_code == STATUS[caller.decision], answer.text
        if answer.status_code != 200:
            continue
        route = answer.json()
        assert (route["user_type"], route["user_id"]) == (caller.decision, caller.user_id)
        assert route["user_id"].startswith(MARKS[caller.decision])
        assert route["writes"] == caller.database
        # The same user on another route, as the same type: not stored is the only difference.
        document = service.ask("GET", "/v1/user", headers=extra, **caller.credentials())
        assert (document.status_code, document.json()["code"]) == (404, "user_not_found")
