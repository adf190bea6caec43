"""The manifests fit the API, the profile `restricted`, each other and the binary; each check finds a planted fault."""

from __future__ import annotations

import copy
import pathlib
import shutil
from typing import Callable

import kubernetes
import pytest


@pytest.fixture(scope="module", params=kubernetes.OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> list[kubernetes.Manifest]:
    return kubernetes.render(kubernetes.FOLDER / "overlays" / request.param)


@pytest.fixture(scope="module")
def production() -> list[kubernetes.Manifest]:
    return kubernetes.render(kubernetes.FOLDER / "overlays" / "production")


@pytest.fixture(scope="module")
def variables() -> set[str]:
    return kubernetes.known_variables()


def test_the_overlays_fit_the_api(rendered: list[kubernetes.Manifest]) -> None:
    assert kubernetes.against_schema(rendered) == []
    assert kubernetes.unconnected(rendered) == []


def test_the_overlays_give_the_process_what_it_needs_and_no_more(
    rendered: list[kubernetes.Manifest], variables: set[str]
) -> None:
    assert kubernetes.unsafe(rendered) == []
    assert kubernetes.unlike_the_binary(rendered, variables) == []


def test_production_has_what_a_trial_does_without(production: list[kubernetes.Manifest]) -> None:
    kinds = {manifest["kind"] for manifest in production}
    assert {"PodDisruptionBudget", "NetworkPolicy", "ConfigMap"} <= kinds
    spec = kubernetes.one(production, "StatefulSet")["spec"]
    assert spec["replicas"] >= 2
    spread = {it["topologyKey"] for it in spec["template"]["spec"]["topologySpreadConstraints"]}
    assert spread == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    # A secret in the repository is no secret.
    assert "Secret" not in kinds
    policy = kubernetes.one(production, "NetworkPolicy")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    # The two listeners are open to different namespaces.
    by_port = {rule["ports"][0]["port"]: str(rule["from"]) for rule in policy["ingress"]}
    assert by_port["http"] != by_port["ops"]


Change = Callable[[kubernetes.Manifest, kubernetes.Manifest, kubernetes.Manifest], object]


@pytest.mark.parametrize(
    ("check", "change"),
    [
        (kubernetes.against_schema, lambda spec, pod, own: spec.update(replicas="three")),
        (kubernetes.against_schema, lambda spec, pod, own: own.update(readyProbe={})),
        (
            kubernetes.against_schema,
            lambda spec, pod, own: own["securityContext"].update(readOnlyRootFileSystem=True),
        ),
        (
            kubernetes.unconnected,
            lambda spec, pod, own: spec["template"]["metadata"].update(labels={"app": "other"}),
        ),
        (kubernetes.unconnected, lambda spec, pod, own: spec.update(serviceName="nothing")),
        (kubernetes.unconnected, lambda spec, pod, own: own["ports"].pop()),
        (kubernetes.unconnected, lambda spec, pod, own: own["volumeMounts"].pop()),
        (kubernetes.unsafe, lambda spec, pod, own: own["securityContext"].pop("readOnlyRootFilesystem")),
        (
            kubernetes.unsafe,
            lambda spec, pod, own: own["securityContext"]["capabilities"].update(drop=["NET_RAW"]),
        ),
        (kubernetes.unsafe, lambda spec, pod, own: pod["securityContext"].update(runAsUser=0)),
        (
            kubernetes.unsafe,
            lambda spec, pod, own: own["env"].append({"name": "SECRET_KEY", "value": "x" * 32}),
        ),
    ],
)
def test_a_fault_in_a_manifest_is_found(
    production: list[kubernetes.Manifest], check: Callable[[list], list[str]], change: Change
) -> None:
    assert faults(production, check, change)


@pytest.mark.parametrize(
    "change",
    [
        lambda spec, pod, own: own["env"].append({"name": "TIERKEEP_LISTENS", "value": "1"}),
        lambda spec, pod, own: own["ports"][0].update(containerPort=8000),
        lambda spec, pod, own: own["readinessProbe"]["httpGet"].update(path="/health/live"),
        lambda spec, pod, own: own["livenessProbe"]["httpGet"].update(port="ops"),
        lambda spec, pod, own: pod.update(terminationGracePeriodSeconds=30),
        lambda spec, pod, own: own["resources"]["limits"].update(memory="256Mi"),
        lambda spec, pod, own: own.update(volumeMounts=[]),
    ],
)
def test_a_manifest_that_does_not_fit_the_binary_is_found(
    production: list[kubernetes.Manifest], variables: set[str], change: Change
) -> None:
    assert faults(production, lambda it: kubernetes.unlike_the_binary(it, variables), change)


def faults(
    manifests: list[kubernetes.Manifest], check: Callable[[list], list[str]], change: Change
) -> list[str]:
    """What a check finds after a change, and did not find before."""
    assert check(manifests) == []
    planted = copy.deepcopy(manifests)
    spec = kubernetes.one(planted, "StatefulSet")["spec"]
    pod = spec["template"]["spec"]
    change(spec, pod, pod["containers"][0])
    return check(planted)


def test_a_patch_that_hits_nothing_is_refused(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "kubernetes"
    shutil.copytree(kubernetes.FOLDER, folder)
    patch = folder / "overlays" / "production" / "processes.yaml"
    patch.write_text(patch.read_text().replace("kind: StatefulSet", "kind: Deployment"))
    with pytest.raises(AssertionError):
        kubernetes.render(folder / "overlays" / "production")
