"""Property 4 of the mission's testing strategy: who may read and write follows from the credentials alone."""

from typing import Any

from callers import Caller, callers, contents, sections
from deployment import Deployment, Service
from hypothesis import given

ALLOWED = {"internal": {200, 201}, "external": {200, 201}, "refused": {401}, "unavailable": {503}}


@given(caller=callers(), section=sections, content=contents)
def test_only_those_who_may_write_do(
    deployed: Deployment, service: Service, caller: Caller, section: str, content: dict[str, Any]
) -> None:
    path = f"/v1/user/{section}"
    put = service.ask("PUT", path, body=content, **caller.credentials())
    assert put.status_code in ALLOWED[caller.decision], put.text
    # Whoever the credentials may have meant, nothing of a refused write is stored anywhere.
    internal = deployed.where(f"internal_{caller.subject}")
    assert internal == ({caller.database} if caller.decision == "internal" else set())
    if caller.username is not None:
        assert deployed.where(f"external_{caller.username.lower()}") == {"external_users"}
    read = service.ask("GET", path, **caller.credentials())
    assert read.status_code in ALLOWED[caller.decision]
    if caller.user_id:
        assert read.json() == content
    # Admin routes take a role that none of these has.
    admin = service.ask("GET", "/v1/admin/overview", **caller.credentials())
    assert admin.status_code == (403 if caller.jwt == "valid" else 401), admin.text
