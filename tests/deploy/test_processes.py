"""The overlays' processes run with their variables, arguments, files, user, probes, signals and memory limit."""

from __future__ import annotations

import os
import pathlib
import secrets
import urllib.parse
import uuid
from typing import Any, Iterator

import deployment
import kubernetes
import pymongo
import pytest
import sandbox

USER = "external_octocat"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return sandbox.root(tmp_path_factory.mktemp("image"))


def process(
    manifests: list[kubernetes.Manifest], image: pathlib.Path, volumes: dict[str, pathlib.Path]
) -> sandbox.Container:
    """The container of the manifests, with the image's entry point and these folders as its volumes."""
    pod = kubernetes.one(manifests, "StatefulSet")["spec"]["template"]["spec"]
    own = kubernetes.container(manifests)
    user = pod["securityContext"]["runAsUser"]
    for folder in volumes.values():
        os.chown(folder, user, pod["securityContext"]["fsGroup"])
    limit = own["resources"]["limits"]["memory"]
    return sandbox.Container(
        command=["/usr/local/bin/tierkeep", *own["args"]],
        environment=kubernetes.environment(manifests),
        user=user,
        volumes=[
            sandbox.Volume(mount["mountPath"], volumes[mount["name"]], mount.get("readOnly", False))
            for mount in own["volumeMounts"]
        ],
        root=image,
        memory=int(limit[:-2]) * kubernetes.UNITS[limit[-2:]],
    )


def probed(manifests: list[kubernetes.Manifest], running: sandbox.Running) -> None:
    """Asks what the probes ask."""
    own = kubernetes.container(manifests)
    ports = {port["name"]: port["containerPort"] for port in own["ports"]}
    for probe in ("livenessProbe", "readinessProbe"):
        asked = own[probe]["httpGet"]
        running.until(ports[asked["port"]], asked["path"], 200)
    # The operators' routes are on their listener alone.
    for path in ("/metrics", "/health/databases"):
        assert running.get(ports["ops"], path)[0] == 200
        assert running.get(ports["http"], path)[0] == 404
    assert running.get(ports["http"], "/v1/user?username=octocat")[0] == 404


def stopped(manifests: list[kubernetes.Manifest], running: sandbox.Running) -> None:
    """Stops it as the kubelet does, in the time that it has."""
    spec = kubernetes.one(manifests, "StatefulSet")["spec"]["template"]["spec"]
    pause = kubernetes.container(manifests)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert running.stop(spec["terminationGracePeriodSeconds"] - pause) == 0


def test_the_trial_runs_as_its_manifest_says(image: pathlib.Path, tmp_path: pathlib.Path) -> None:
    manifests = kubernetes.render(kubernetes.FOLDER / "overlays" / "trial")
    container = process(manifests, image, {"state": tmp_path})
    with sandbox.running(container) as running:
        probed(manifests, running)
        status = pathlib.Path(f"/proc/{running.first}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split() == ["10001"] * 4
        assert fields["NSpid"].split()[-1] == "1"
        assert {int(fields[it], 16) for it in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")} == {0}
        assert fields["NoNewPrivs"] == "1"
        given = pathlib.Path(f"/proc/{running.first}/environ").read_bytes().split(b"\0")
        named = {it.split(b"=")[0].decode() for it in given if it}
        # It restarts itself with settings for the heap (ADR 19), still as the first process.
        assert {name for name in named if not name.startswith("MALLOC_")} == set(container.environment)
        assert "HOME" not in named
        stopped(manifests, running)
    # Its files are on its volume, and a second process continues with them.
    assert (tmp_path / "data" / "external_users.db").is_file()
    with sandbox.running(container) as running:
        probed(manifests, running)
        stopped(manifests, running)


def test_a_root_that_cannot_be_written_to_and_no_volume_is_refused_by_name(
    image: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    manifests = kubernetes.render(kubernetes.FOLDER / "overlays" / "trial")
    container = process(manifests, image, {"state": tmp_path})
    os.chown(tmp_path, 0, 0)
    tmp_path.chmod(0o755)
    with sandbox.running(container) as running:
        assert running.process.wait(timeout=60) == 2
        with pytest.raises(AssertionError, match="/var/lib/tierkeep"):
            running.said("listening")


def test_a_process_that_needs_more_memory_than_its_limit_is_killed(
    image: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    # What holds the other tests below the limit is one that kills.
    manifests = kubernetes.render(kubernetes.FOLDER / "overlays" / "trial")
    container = process(manifests, image, {"state": tmp_path})
    container.memory = 8 << 20
    with sandbox.running(container) as running:
        assert running.process.wait(timeout=60) != 0
        # It did not end by itself: it gave no reason.
        told = running.heard()
        assert not any("listening" in line or line.startswith("error:") for line in told), told


@pytest.fixture
def cluster() -> Iterator[dict[str, Any]]:
    """Databases under names of their own, each with its connection string, where production has one for all."""
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(deployment.MONGODB_URL)
    unique = uuid.uuid4().hex[:12]
    names = {role: f"k{unique}_{role}" for role in deployment.ROLES}
    yield {role: deployment.mongodb_url(name) for role, name in names.items()}
    for name in names.values():
        client.drop_database(name)
    client.close()


def test_production_runs_as_its_manifest_says(
    image: pathlib.Path, tmp_path: pathlib.Path, cluster: dict[str, Any]
) -> None:
    manifests = kubernetes.render(kubernetes.FOLDER / "overlays" / "production")
    volumes = {}
    for name in ("state", "settings", "secrets"):
        volumes[name] = tmp_path / name
        volumes[name].mkdir()
    (settings,) = [it for it in manifests if it["kind"] == "ConfigMap"]
    for name, content in settings["data"].items():
        (volumes["settings"] / name).write_text(content)
    pod = kubernetes.one(manifests, "StatefulSet")["spec"]["template"]["spec"]
    (secret,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    values = {
        "cluster_url": deployment.MONGODB_URL,
        "secret_key": secrets.token_hex(32),
        "audit_key": secrets.token_hex(32),
    }
    for item in secret["items"]:
        file = volumes["secrets"] / item["path"]
        file.write_text(values.pop(item["key"]))
        os.chown(file, 0, pod["securityContext"]["fsGroup"])
        file.chmod(secret["defaultMode"])
    assert values == {}, "the manifest mounts no such keys"
    container = process(manifests, image, volumes)
    # The group of the secrets is the pod's.
    assert pod["securityContext"]["fsGroup"] == container.user
    # The server is shared with other tests: databases of this one's own.
    for role, variable in deployment.ROLES.items():
        container.environment[variable] = cluster[role]
    port = urllib.parse.urlsplit(deployment.MONGODB_URL).port
    assert port
    with sandbox.running(container) as running, sandbox.bridged(running, port):
        probed(manifests, running)
        body = running.get(9090, "/health/databases")[1]
        assert body.count('"up"') == len(deployment.ROLES), body
        stopped(manifests, running)
    told = "\n".join(running.heard())
    assert "listening" in told
    assert deployment.MONGODB_URL not in told
