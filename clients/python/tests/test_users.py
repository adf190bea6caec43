"""Users' routes: what is written is read back, under conditions or without."""

from __future__ import annotations

import json

import pytest
from support import Connect, Service, internal, public, role

import tierkeep
from tierkeep import errors

CONTENT = {"score": 87, "ratio": 1.0, "big": 2**62, "a.b": [None, True, "ü\U0001f600"], "z": {"y": 1, "x": 2}}


@pytest.mark.parametrize("caller", [internal, public])
def test_a_section_is_read_as_it_was_put(service: Service, connect: Connect, caller: type) -> None:
    client = connect(service.base, credentials=caller())
    first = client.replace_section("scan_cache", CONTENT)
    assert (first.created, first.version, first.ambiguous) == (True, 1, False)
    again = client.replace_section("scan_cache", CONTENT)
    assert (again.created, again.version) == (False, 2)
    section = client.read_section("scan_cache")
    assert json.dumps(section.content) == json.dumps(CONTENT)
    assert (section.version, section.source, section.ambiguous) == (2, None, False)
    assert first.updated_at.tzinfo is not None


def test_a_body_may_be_json_text(service: Service, connect: Connect) -> None:
    client = connect(service.base, credentials=internal())
    client.replace_section("scan_cache", b'{"a": 1.0, "b": 1}')
    assert json.dumps(client.read_section("scan_cache").content) == '{"a": 1.0, "b": 1}'


def test_a_patch_merges(service: Service, connect: Connect) -> None:
    client = connect(service.base, credentials=internal())
    assert client.patch_section("scan_cache", {"a": 1, "b": {"c": 2}}).created
    client.patch_section("scan_cache", {"a": None, "b": {"d": 3}})
    assert client.read_section("scan_cache").content == {"b": {"c": 2, "d": 3}}


def test_the_whole_document_has_its_sections_and_metadata(service: Service, connect: Connect) -> None:
    client = connect(service.base, credentials=internal())
    client.replace_section("scan_cache", {"a": 1})
    changed = client.replace_section("analysis_progress", {"b": 2})
    user = client.read_user()
    assert user.sections == {"scan_cache": {"a": 1}, "analysis_progress": {"b": 2}}
    assert (user.id, user.user_id, user.user_type) == (changed.user_id, changed.user_id, "internal")
    assert user.metadata
    assert (user.metadata.version, user.metadata.storage_location, user.version) == (2, "RASEEN_TEMP", 2)
    assert user.data_location == "temp"


def test_writes_are_conditional(service: Service, connect: Connect) -> None:
    client = connect(service.base, credentials=internal())
    version = client.replace_section("scan_cache", {"a": 1}, if_none_match="*").version
    with pytest.raises(errors.VersionMismatchError) as refused:
        client.replace_section("scan_cache", {"a": 2}, if_none_match="*")
    assert refused.value.nothing_changed
    with pytest.raises(errors.VersionMismatchError) as refused:
        client.patch_section("scan_cache", {"a": 2}, if_match=version + 1)
    assert refused.value.version == version
    assert client.replace_section("scan_cache", {"a": 3}, if_match=version).version == version + 1
    assert client.replace_section("scan_cache", {"a": 4}, if_match=[version, version + 1]).version == version + 2
    assert client.replace_section("scan_cache", {"a": 5}, if_match="*").version == version + 3
    with pytest.raises(errors.VersionMismatchError):
        client.remove_section("scan_cache", if_match=version)
    assert client.read_section("scan_cache").content == {"a": 5}


def test_reads_are_conditional(service: Service, connect: Connect) -> None:
    client = connect(service.base, credentials=internal())
    version = client.replace_section("scan_cache", {"a": 1}).version
    assert client.read_section("scan_cache", if_none_match=version) is None
    assert client.read_user(if_none_match=[version, version + 1]) is None
    read = client.read_section("scan_cache", if_none_match=version + 1)
    assert read
    assert read.content == {"a": 1}
    assert client.read_user(if_match=version).version == version
    with pytest.raises(errors.VersionMismatchError):
        client.read_user(if_match=version + 1)


def test_a_section_and_a_user_are_removed(service: Service, connect: Connect) -> None:
    client = connect(service.base, credentials=internal())
    client.replace_section("scan_cache", {"a": 1})
    client.replace_section("analysis_progress", {"a": 1})
    assert client.remove_section("scan_cache").version == 3
    with pytest.raises(errors.SectionNotFoundError):
        client.read_section("scan_cache")
    assert client.erase_user().pending == ()
    with pytest.raises(errors.UserNotFoundError):
        client.read_user()
    # A new life is above the one that was erased.
    assert client.replace_section("scan_cache", {"a": 2}).version > 3


def test_the_decision_is_explained(service: Service, connect: Connect) -> None:
    client = connect(service.base, credentials=internal("00aa" * 6))
    route = client.explain_route()
    assert (route.user_type, route.user_id) == ("internal", "internal_" + "00aa" * 6)
    assert route.reads == ("raseen_temp_user", "raseen_main_user", "srie_main_user")
    assert route.writes == "raseen_temp_user"


def test_a_public_name_beside_credentials_is_marked_ambiguous(service: Service, connect: Connect) -> None:
    named = public().username
    known = internal()
    client = connect(service.base, credentials=tierkeep.Credentials(known.jwt, known.github_token, named))
    changed = client.replace_section("scan_cache", {"a": 1})
    assert (changed.user_id, changed.ambiguous) == (f"external_{named}", True)
    assert client.read_section("scan_cache").ambiguous
    assert client.read_user().ambiguous


def test_other_callers_share_the_connections(service: Service, connect: Connect) -> None:
    client = connect(service.base)
    one = client.with_options(credentials=public(), request_id="the-first-caller")
    other = one.with_options(credentials=role("admin"), timeout=5.0)
    assert one.replace_section("scan_cache", {}).created
    with pytest.raises(errors.CredentialsRequiredError):
        client.explain_route()
    with pytest.raises(errors.UserNotFoundError) as refused:
        other.explain_user("external_nobody-of-this-name")
    assert refused.value.request_id == "the-first-caller"
    # It closes nothing that it did not open.
    other.close()
    one.close()
    assert client.live().status == "ok"
