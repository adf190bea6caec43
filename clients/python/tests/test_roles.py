"""The routes of HR, of administrators, and of the service itself."""

from __future__ import annotations

import datetime

import deployment
import pytest
from support import Connect, Service, internal, role

from tierkeep import errors, results

NEVER = "internal_" + "0" * 24


def unique() -> str:
    return deployment.subject()


def test_an_hr_record_is_kept_with_its_backup(service: Service, connect: Connect) -> None:
    client = connect(service.base, credentials=role("hr"))
    record_id = f"{unique()}:a@b.c"
    record = client.replace_hr_record("hr_candidates", record_id, {"name": "Ada", "n": {"a": 1}})
    assert (record.id, record.created, record.version) == (record_id, True, 1)
    assert record.metadata.backup_status == "completed"
    assert record.content == {"name": "Ada", "n": {"a": 1}}
    patched = client.patch_hr_record("hr_candidates", record_id, {"n": {"a": None, "b": 2}}, if_match=1)
    assert (patched.created, patched.version, patched.content["n"]) == (False, 2, {"b": 2})
    assert client.read_hr_record("hr_candidates", record_id, if_none_match=2) is None
    assert client.read_hr_record("hr_candidates", record_id).content == patched.content
    with pytest.raises(errors.VersionMismatchError) as refused:
        client.remove_hr_record("hr_candidates", record_id, if_match=1)
    assert refused.value.version == 2
    client.remove_hr_record("hr_candidates", record_id, if_match=2)
    with pytest.raises(errors.RecordNotFoundError):
        client.read_hr_record("hr_candidates", record_id)


@pytest.mark.parametrize("id", ["..", ".", "a:b@c.d", "..."])
def test_an_id_is_one_segment_of_the_path(service: Service, connect: Connect, id: str) -> None:
    client = connect(service.base, credentials=role("hr"))
    client.replace_hr_record("hr_reports", id, {"id": "mine"})
    assert client.read_hr_record("hr_reports", id).content == {"id": "mine"}
    client.remove_hr_record("hr_reports", id)


def test_records_are_listed_page_by_page(service: Service, connect: Connect) -> None:
    client = connect(service.base, credentials=role("hr"))
    prefix = unique()
    for number in range(5):
        client.replace_hr_record("hr_evaluations", f"{prefix}-{number}", {"number": number})
    page = client.list_hr_records("hr_evaluations", limit=2)
    assert len(page.items) == 2
    assert page.next_cursor
    rest = client.list_hr_records("hr_evaluations", limit=1000, cursor=page.next_cursor)
    listed = [it.id for it in [*page.items, *rest.items]]
    assert [it.id for it in client.iter_hr_records("hr_evaluations", limit=2)] == listed
    assert [it for it in listed if it.startswith(prefix)] == [f"{prefix}-{number}" for number in range(5)]


def test_the_movement_is_run_and_looked_at(service: Service, connect: Connect) -> None:
    client = connect(service.base, credentials=role("admin"))
    users = [unique() for _ in range(3)]
    for subject in users:
        client.with_options(credentials=internal(subject)).replace_section("scan_cache", {"of": subject})
        service.deployed.shift(f"internal_{subject}", datetime.timedelta(days=2))
    counted = client.run_migration(dry_run=True)
    assert counted.due >= 3
    assert counted.dry_run
    begun = client.run_migration(older_than="1h")
    moved = [client.list_migrations(user=f"internal_{subject}", status="completed") for subject in users]
    while not all(page.items for page in moved):
        moved = [client.list_migrations(user=f"internal_{subject}", status="completed") for subject in users]
    assert {page.items[0].run_id for page in moved} == {begun.run_id}
    assert moved[0].items[0].target_db == "raseen_main_user"
    assert {it.user_id for it in client.iter_migrations(limit=1)} >= {f"internal_{subject}" for subject in users}
    explained = client.explain_user(f"internal_{users[0]}")
    assert explained.authoritative == "raseen_main_user"
    assert {copy.database for copy in explained.copies} == {"raseen_main_user", "srie_main_user"}
    assert [record.status for record in explained.records or ()] == ["completed"]
    overview = client.overview()
    assert len(overview.databases) == 7
    assert overview.next_24_hours
    assert len(overview.next_24_hours.hours) == 24
    verified = client.verify(sample=100)
    assert isinstance(verified, results.Verified)
    assert (verified.different, verified.missing_in_backup) == (0, 0)
    quick = client.verify(quick=True)
    assert isinstance(quick, results.Verified)
    assert (quick.different, quick.missing_in_backup, quick.missing_in_main) == (0, 0, 0)
    assert isinstance(client.verify(repair=True, prefer="main"), results.Verified)
    restored = client.restore(user_ids=[f"internal_{subject}" for subject in users])
    assert isinstance(restored, results.Restored)
    assert (restored.unchanged, restored.restored) == (3, 0)
    one = client.restore(user_id=f"internal_{users[0]}", dry_run=True)
    assert isinstance(one, results.Restored)
    assert one.dry_run
    everybody = client.restore(all=True, dry_run=True)
    assert isinstance(everybody, results.Restored)
    assert everybody.checked >= 3


def test_the_movement_is_paused_and_resumed(service: Service, connect: Connect) -> None:
    client = connect(service.base, credentials=role("admin"))
    try:
        assert client.pause_mover() == results.Pausing(paused=True, changed=True)
        assert client.pause_mover() == results.Pausing(paused=True, changed=False)
        assert client.overview().paused
        with pytest.raises(errors.MoverPausedError):
            client.run_migration()
    finally:
        assert client.resume_mover().paused is False
    assert client.retry_migrations() == results.Retried(retried=0)
    with pytest.raises(errors.UserNotFoundError):
        client.retry_migrations(user_id=NEVER)


def test_what_has_no_backup_is_copied(service: Service, connect: Connect) -> None:
    client = connect(service.base, credentials=role("admin"))
    done = client.backup()
    assert isinstance(done, results.BackedUp)
    assert done.complete
    assert (done.corrupt, done.conflicts, done.refused) == (0, 0, 0)


def test_the_trail_and_alerts_are_listed(service: Service, connect: Connect) -> None:
    user = internal()
    client = connect(service.base, credentials=role("admin"))
    changed = client.with_options(credentials=user, request_id=unique()).replace_section("scan_cache", {})
    page = client.list_audit(kind="decision", user=changed.user_id)
    (entry,) = page.items
    assert isinstance(entry, results.AuditEntry)
    assert (entry.decision, entry.user_id) == ("internal", changed.user_id)
    first = client.list_audit(limit=1)
    assert first.next_cursor
    following = client.list_audit(limit=1, cursor=first.next_cursor)
    both = [*first.items, *following.items]
    assert list(client.iter_audit(limit=50))[:2] == both
    # The service of other tests, which have documents overdue for a moment.
    assert {alert.kind for alert in client.list_alerts().items} <= {"documents_overdue"}
    assert list(client.iter_alerts(filter="all", limit=1)) == list(client.list_alerts(filter="all").items)


def test_the_service_tells_of_itself(service: Service, connect: Connect) -> None:
    client = connect(service.base)
    assert client.live() == results.Health(status="ok", reasons=())
    assert client.ready().status in {"ok", "degraded"}
    assert [it.name for it in client.databases().databases] == list(deployment.ROLES)
    database = client.database("srie_main_hr")
    assert (database.name, database.status, database.error) == ("srie_main_hr", "up", None)
    assert "tierkeep_requests_total" in client.metrics()
    assert client.openapi()["info"]["title"] == "tierkeep"
    assert "<form" in client.dashboard()
