"""Dumps are read by another program's BSON reader, and dumps of another program are imported."""

import datetime
import gzip
import json
import pathlib
from typing import Any

import bson
import deployment
import pytest
from bson import json_util

MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)


def opened(path: pathlib.Path, packed: bool) -> Any:
    """The file, as it was before it was compressed."""
    return gzip.open(f"{path}.gz", "rb") if packed else open(path, "rb")


@pytest.mark.parametrize("packed", [False, True])
def test_an_export_is_read_by_another_reader(
    deployed: deployment.Deployment,
    service: deployment.Service,
    tmp_path: pathlib.Path,
    packed: bool,
) -> None:
    subject = deployment.subject()
    body = {"a.b": {"z": 1, "a": 2.0}, "list": [1, "x", None], "big": 2**40}
    client = service.client(deployment.internal(subject))
    assert client.replace_section("scan_cache", body).created
    dump = tmp_path / "dump"
    exported = deployed.json("export", str(dump), *(["--gzip"] if packed else []))
    found = 0
    for role in deployment.ROLES:
        for metadata in (dump / role).glob("*.metadata.json*"):
            name = metadata.name.split(".metadata.json")[0]
            with opened(dump / role / f"{name}.metadata.json", packed) as file:
                described = json_util.loads(file.read().decode())
            assert described["collectionName"] == name
            assert described["indexes"][0] == {"v": 2, "key": {"_id": 1}, "name": "_id_"}
            with opened(dump / role / f"{name}.bson", packed) as file:
                documents = list(bson.decode_file_iter(file))
            found += len(documents)
            if (role, name) == ("raseen_temp_user", "internal_users"):
                mine = [d for d in documents if d["user_id"] == f"internal_{subject}"]
                assert [d["scan_cache"] for d in mine] == [body]
                assert list(mine[0]["scan_cache"]) == list(body)
    assert found == exported["documents"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("backend", ["sqlite", "mongodb"])
def test_a_dump_of_another_writer_is_taken_in(
    github: str, tmp_path: pathlib.Path, backend: str, packed: bool
) -> None:
    subject = deployment.subject()
    internal = {
        "_id": bson.ObjectId(),
        "user_id": f"internal_{subject}",
        "user_type": "internal",
        "created_at": MOMENT,
        "last_accessed": MOMENT,
        "data_location": "temp",
        "scan_cache": {"score": bson.Int64(7), "ratio": 1.0, "z": {"y": [1, 2]}},
        "metadata": {"storage_location": "RASEEN_TEMP", "backup_status": "pending"},
    }
    external = dict(internal, _id="external_octocat", user_id="external_octocat")
    external |= {"user_type": "external", "data_location": "external"}
    written = {
        ("raseen_temp_user", "internal_users"): [internal],
        ("external_users", "external_users"): [external],
    }
    for (role, name), documents in written.items():
        (tmp_path / "dump" / role).mkdir(parents=True)
        metadata = {
            "options": {},
            "indexes": [{"v": {"$numberInt": "2"}, "key": {"_id": {"$numberInt": "1"}}, "name": "_id_"}],
            "uuid": "0123456789abcdef0123456789abcdef",
            "collectionName": name,
            "type": "collection",
        }
        files = {
            f"{name}.bson": b"".join(bson.encode(document) for document in documents),
            f"{name}.metadata.json": json.dumps(metadata).encode(),
            "prelude.json": b'{"ServerVersion":"6.0.5","ToolVersion":"100.13.0"}',
        }
        for file, content in files.items():
            path = tmp_path / "dump" / role / (f"{file}.gz" if packed else file)
            path.write_bytes(gzip.compress(content) if packed else content)
    taking = deployment.Deployment(backend, github)
    try:
        imported = taking.json("import-dump", str(tmp_path / "dump"))
        assert (imported["imported"], imported["refused"]) == (2, 0), imported
        assert taking.copy("raseen_temp_user", internal["user_id"]) == internal
        assert taking.copy("external_users", "external_octocat") == external
        again = taking.json("import-dump", str(tmp_path / "dump"))
        assert (again["imported"], again["unchanged"]) == (0, 2), again
        moved = taking.json("migrate", "run", "--older-than", "0s")
        assert moved["moved"] == 1, moved
        assert taking.where(internal["user_id"]) == {"raseen_main_user", "srie_main_user"}
        after = taking.json("import-dump", str(tmp_path / "dump"))
        assert (after["imported"], after["unchanged"]) == (0, 2), after
        assert taking.where(internal["user_id"]) == {"raseen_main_user", "srie_main_user"}
    finally:
        taking.close()
