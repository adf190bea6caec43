"""Each method that the mission names, through the service."""

from __future__ import annotations

import datetime
import inspect
import logging
import types
from typing import Any, cast

import deployment
import pytest
from support import Blocking, Connect, Service, internal, public, role

import tierkeep
from tierkeep import errors, results, seed

METHODS = {
    "DatabaseConnectionManager": {
        "get_external_db",
        "get_raseen_temp_db",
        "get_raseen_main_db",
        "get_raseen_hr_db",
        "get_srie_main_db",
        "get_srie_hr_db",
    },
    "UserTypeDetector": {"is_internal_user", "get_user_id_with_prefix", "get_appropriate_database"},
    "DataMigrationService": {"migrate_expired_data", "backup_to_srie", "cleanup_temp_data"},
    "LoggingService": {"log_internal_operation", "log_external_operation"},
}


def of_kind(client: tierkeep.Client, name: str, *args: Any, **options: Any) -> Any:
    """A component over this client: the one that blocks, or the one that is awaited."""
    if isinstance(client, Blocking):
        component = getattr(seed, f"Async{name}")(client._client, *args, **options)
        return Blocking(component, client._portal)
    return getattr(seed, name)(client, *args, **options)


def manager_of(client: tierkeep.Client) -> seed.DatabaseConnectionManager:
    made = of_kind(client, "DatabaseConnectionManager", hr=role("hr"), admin=role("admin"))
    return cast("seed.DatabaseConnectionManager", made)


def handle(manager: Any, name: str) -> Any:
    database = getattr(manager, name)()
    return Blocking(database, manager._portal) if isinstance(manager, Blocking) else database


@pytest.mark.parametrize("component", METHODS)
def test_each_component_has_the_mission_s_methods(component: str) -> None:
    for name in [component] if component == "LoggingService" else [component, f"Async{component}"]:
        public = {it for it, _ in inspect.getmembers(getattr(seed, name), callable) if not it.startswith("_")}
        assert METHODS[component] <= public


def test_the_manager_hands_out_all_seven_databases(service: Service, connect: Connect) -> None:
    manager = manager_of(connect(service.base))
    names = [*METHODS["DatabaseConnectionManager"], "get_audit_db"]
    databases = [handle(manager, name) for name in names]
    assert {it.name for it in databases} == set(deployment.ROLES)
    for database in databases:
        assert database.ping().status == "up"
        assert database.count_documents() >= 0


def test_callers_data_reaches_their_database_and_no_other(service: Service, connect: Connect) -> None:
    manager = manager_of(connect(service.base))
    temp, external = handle(manager, "get_raseen_temp_db"), handle(manager, "get_external_db")
    known, named = internal(), public()
    assert temp.find_one(known) is None
    changed = temp.update_one(known, "scan_cache", {"a": 1})
    assert changed.database == "raseen_temp_user"
    assert temp.find_one(known).sections == {"scan_cache": {"a": 1}}
    assert external.find_one(known) is None
    assert temp.find_copy(changed.user_id).version == 1
    assert external.find_copy("external_nobody-of-this-name") is None
    with pytest.raises(errors.VersionMismatchError):
        temp.update_one(known, "scan_cache", {}, if_match=2)
    with pytest.raises(seed.WrongDatabaseError) as wrong:
        temp.update_one(named, "scan_cache", {"a": 1})
    assert (wrong.value.database, wrong.value.writes) == ("raseen_temp_user", "external_users")
    assert external.find_one(named) is None
    assert external.update_one(named, "scan_cache", {"a": 2}).created
    assert external.find_one(named).sections == {"scan_cache": {"a": 2}}


def test_what_is_due_is_moved_with_its_backup(service: Service, connect: Connect) -> None:
    client = connect(service.base)
    manager = manager_of(client)
    temp, main, srie = (handle(manager, f"get_{it}_db") for it in ("raseen_temp", "raseen_main", "srie_main"))
    subjects = [deployment.subject(), deployment.subject()]
    users = [internal(subject) for subject in subjects]
    for user in users:
        temp.update_one(user, "scan_cache", {"a": 1})
    mover = of_kind(client.with_options(credentials=role("admin")), "DataMigrationService")
    service.deployed.shift(f"internal_{subjects[0]}", datetime.timedelta(days=2))
    assert mover.migrate_expired_data(limit=1000).moved == 1
    assert temp.find_one(users[0]) is None
    assert main.find_one(users[0]).sections == {"scan_cache": {"a": 1}}
    copies = [it.find_copy(f"internal_{subjects[0]}") for it in (temp, main, srie)]
    assert copies[0] is None
    assert copies[1].digest == copies[2].digest
    assert main.find_one(users[1]) is None
    service.deployed.shift(f"internal_{subjects[1]}", datetime.timedelta(days=2))
    assert mover.cleanup_temp_data().moved == 1
    assert srie.find_copy(f"internal_{subjects[1]}").state == "live"


def test_what_has_no_backup_is_copied_to_srie(service: Service, connect: Connect) -> None:
    client = connect(service.base, credentials=role("admin"))
    mover = of_kind(client, "DataMigrationService")
    done = mover.backup_to_srie()
    assert isinstance(done, results.BackedUp)
    assert done.complete


def test_hr_records_and_the_trail_are_reached(service: Service, connect: Connect) -> None:
    manager = manager_of(connect(service.base))
    records, trail = handle(manager, "get_raseen_hr_db"), handle(manager, "get_audit_db")
    record_id = deployment.subject()
    assert records.find_one("hr_reports", record_id) is None
    assert records.replace_one("hr_reports", record_id, {"a": 1}).metadata.backup_status == "completed"
    assert records.find_one("hr_reports", record_id).content == {"a": 1}
    assert record_id in [it.id for it in records.find("hr_reports")]
    records.delete_one("hr_reports", record_id, if_match=1)
    assert records.find_one("hr_reports", record_id) is None
    assert [it.kind for it in trail.find(kind="hr_action")][:1] == ["hr_action"]


def request(query: str, credentials: tierkeep.Credentials) -> Any:
    given = {} if credentials.username is None else {"username": credentials.username}
    headers = {name.lower(): value for name, value in credentials.headers().items()}
    return types.SimpleNamespace(**{"headers": headers, query: given})


@pytest.mark.parametrize("query", ["query_params", "args", "GET", "none"])
def test_internal_users_are_told_by_the_service(service: Service, connect: Connect, query: str) -> None:
    detector = of_kind(connect(service.base), "UserTypeDetector")
    known = internal()
    assert detector.is_internal_user(request(query, known))
    assert detector.is_internal_user(known)
    # With one of the two credentials the caller is treated as external, and reaches no user's data.
    assert not detector.is_internal_user(request(query, tierkeep.Credentials(jwt=known.jwt)))
    assert not detector.is_internal_user(request(query, tierkeep.Credentials()))
    if query != "none":
        assert not detector.is_internal_user(request(query, public()))
    away = tierkeep.Credentials.internal(jwt=known.jwt or "", github_token="away")
    hasty = of_kind(connect(service.base, retry=tierkeep.Retry(attempts=1)), "UserTypeDetector")
    with pytest.raises(errors.IdentityUnavailableError):
        hasty.is_internal_user(request(query, away))


def test_ids_carry_their_prefix() -> None:
    detector = seed.UserTypeDetector(tierkeep.Client())
    assert detector.get_user_id_with_prefix({"sub": "AB" * 12}, "internal") == "internal_" + "ab" * 12
    assert detector.get_user_id_with_prefix({"username": "Srie06"}, "external") == "external_srie06"
    assert detector.get_user_id_with_prefix({"username": "a b", "login": "ab"}, "external") == "external_ab"
    for data, user_type in (({"sub": "ab"}, "internal"), ({"username": "a" * 40}, "external"), ({}, "external")):
        with pytest.raises(ValueError, match="makes the id"):
            detector.get_user_id_with_prefix(data, cast("seed.UserType", user_type))


def test_databases_follow_type_and_category() -> None:
    detector = seed.UserTypeDetector(tierkeep.Client())
    types: tuple[seed.UserType, ...] = ("internal", "external")
    categories: tuple[seed.DataCategory, ...] = ("user", "hr", "audit")
    chosen = {(one, it): detector.get_appropriate_database(one, it) for one in types for it in categories}
    assert chosen["internal", "user"] == "raseen_temp_user"
    assert chosen["external", "user"] == "external_users"
    assert {chosen[it, "hr"] for it in ("internal", "external")} == {"raseen_main_hr"}
    assert {chosen[it, "audit"] for it in ("internal", "external")} == {"evaluation_audit"}


def test_operations_are_logged_with_their_marker(caplog: pytest.LogCaptureFixture) -> None:
    service = seed.LoggingService()
    with caplog.at_level(logging.INFO, "tierkeep"):
        service.log_internal_operation("moved 100%", "internal_1")
        service.log_external_operation("stored", "external_a", logging.WARNING)
    first, second = caplog.records
    assert (first.getMessage(), second.getMessage()) == ("🔐 [INTERNAL] moved 100%", "🌐 [EXTERNAL] stored")
    assert (first.__dict__["user_id"], first.__dict__["user_type"]) == ("internal_1", "internal")
    assert second.levelno == logging.WARNING
