"""What the checks of rules, dashboard and metrics find: a list of findings, empty where all is well."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import re
import socket
import subprocess
import time
from typing import Any, Iterator

import debian
import httpx
import yaml

ROOT = debian.ROOT
RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"
RULE_TESTS = sorted((ROOT / "deploy" / "prometheus").glob("*.test.yaml"))
DASHBOARD = ROOT / "deploy" / "grafana" / "tierkeep.json"
# Where links of rules and dashboard lead to: pages of this repository.
PAGES = "https://github.com/tierkeep/tierkeep/blob/main/"
# Labels that Prometheus adds, and what it calculates quantiles of.
ADDED = {"instance", "job", "le"}
# Functions of Grafana, not of Prometheus, in the queries of variables.
VALUES = re.compile(r"label_values\((?P<metric>\w+), (?P<label>\w+)\)")
SELECTOR = re.compile(r"(?P<metric>tierkeep_\w+)(?:\{(?P<matchers>[^}]*)\})?")
MATCHER = re.compile(r'(?P<label>\w+)\s*(?P<operator>=~|!~|!=|=)\s*"(?P<value>[^"]*)"')
GROUPED = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
LEGEND = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")


@dataclasses.dataclass(frozen=True)
class Query:
    """A query and its position."""

    place: str
    text: str
    # Labels that its result is shown by.
    shown: tuple[str, ...] = ()

    def filled(self, window: str = "1m") -> str:
        """As Prometheus gets it: with values in place of Grafana's variables."""
        text = self.text.replace("$__rate_interval", window)
        return re.sub(r"\$\w+", ".*", text)


def promtool(*arguments: str | pathlib.Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs promtool to its end."""
    program = debian.program("promtool", "prometheus", "PROMTOOL_BIN")
    return subprocess.run([program, *arguments], input=text, capture_output=True, text=True, timeout=300)


def of_dashboard(dashboard: dict[str, Any]) -> list[Query]:
    """Every query of a dashboard: its panels', its annotations' and its variables'."""
    queries = []
    for panel in _panels(dashboard["panels"]):
        for target in panel.get("targets", []):
            shown = tuple(LEGEND.findall(target["legendFormat"]))
            queries.append(Query(panel["title"], target["expr"], shown))
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            asked = VALUES.fullmatch(variable["query"]["query"])
            assert asked, variable
            text = f"count by ({asked['label']}) ({asked['metric']})"
            queries.append(Query(f"variable {variable['name']}", text))
    for annotation in dashboard["annotations"]["list"]:
        queries.append(Query(f"annotation {annotation['name']}", annotation["expr"]))
    return queries


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels", []))


def of_rules(rules: dict[str, Any]) -> list[Query]:
    """The expressions of rules."""
    queries = []
    for group in rules["groups"]:
        for rule in group["rules"]:
            told = " ".join(rule["annotations"].values())
            queries.append(Query(rule["alert"], rule["expr"], tuple(LEGEND.findall(told))))
    return queries


def unparsed(queries: list[Query], scratch: pathlib.Path) -> list[str]:
    """Queries that promtool's parser refuses."""
    findings = []
    for number, query in enumerate(queries):
        # One file each: promtool stops at the first error of a file.
        rules = [{"record": f"query:number:{number}", "expr": query.filled()}]
        file = scratch / f"{number}.yaml"
        file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    ran = promtool("check", "rules", *(scratch / f"{number}.yaml" for number in range(len(queries))))
    # It continues with the next file, and names each.
    said = re.split(r"^Checking (.*)$", ran.stdout + ran.stderr, flags=re.MULTILINE)
    failed = ran.returncode != 0
    for number, query in enumerate(queries):
        if failed:
            alone = promtool("check", "rules", scratch / f"{number}.yaml")
            if alone.returncode != 0:
                findings.append(f"{query.place}: {alone.stderr.strip() or alone.stdout.strip()}")
    assert failed == bool(findings), said
    return findings


class Exposition:
    """What a process serves: each sample's name with its labels."""

    def __init__(self, text: str) -> None:
        self.series: dict[str, list[dict[str, str]]] = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, labels = re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line).groups()  # type: ignore[union-attr]
                found = {it["label"]: it["value"] for it in MATCHER.finditer(labels or "")}
                self.series.setdefault(name, []).append(found)


def not_served(queries: list[Query], served: Exposition) -> list[str]:
    """Metrics, labels and label values that queries name and no series has."""
    findings = []
    for query in queries:
        known = set(ADDED)
        for selector in SELECTOR.finditer(query.filled()):
            metric = selector["metric"]
            series = served.series.get(metric)
            if series is None:
                findings.append(f"{query.place}: {metric} is not served")
                continue
            labels = {label for one in series for label in one}
            known |= labels
            for matcher in MATCHER.finditer(selector["matchers"] or ""):
                if matcher["label"] in ADDED:
                    continue
                if matcher["label"] not in labels:
                    findings.append(f"{query.place}: {metric} has no label {matcher['label']}")
                elif not any(_matches(matcher, one) for one in series):
                    findings.append(f"{query.place}: no series matches {matcher[0]}")
        if not SELECTOR.search(query.text):
            continue
        grouped = [label.strip() for labels in GROUPED.findall(query.text) for label in labels.split(",")]
        for label in [*grouped, *query.shown]:
            if label and label not in known:
                findings.append(f"{query.place}: nothing has the label {label}")
    return findings


def _matches(matcher: re.Match[str], labels: dict[str, str]) -> bool:
    value = labels.get(matcher["label"], "")
    operator, wanted = matcher["operator"], matcher["value"]
    equal = bool(re.fullmatch(wanted, value)) if "~" in operator else value == wanted
    return equal != operator.startswith("!")


def links(text: str) -> set[str]:
    """The repository's pages that a file links to."""
    return set(re.findall(re.escape(PAGES) + r"([\w./-]+)", text))


def without_page(text: str) -> list[str]:
    """Links to pages that do not exist."""
    return sorted(page for page in links(text) if not (ROOT / page).is_file())


def without_runbook(rules: dict[str, Any]) -> list[str]:
    """Rules that do not link to a page that exists."""
    findings = []
    for group in rules["groups"]:
        for rule in group["rules"]:
            page = rule["annotations"].get("runbook_url", "")
            if not page.startswith(PAGES + "docs/alerts/") or without_page(page):
                findings.append(f"{rule['alert']}: no runbook at {page or 'runbook_url'}")
    return findings


def untested(rules: dict[str, Any], tests: list[dict[str, Any]]) -> list[str]:
    """Rules of which no unit test expects that they fire, or none that they do not."""
    fires, rests = set(), set()
    for test in tests:
        for case in test["alert_rule_test"]:
            (fires if case.get("exp_alerts") else rests).add(case["alertname"])
    names = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    return [name for name in names if name not in fires or name not in rests]


@contextlib.contextmanager
def prometheus(targets: list[str], scratch: pathlib.Path) -> Iterator[httpx.Client]:
    """A Prometheus with the rules that scrapes these addresses every second."""
    program = debian.program("prometheus", "prometheus", "PROMETHEUS_BIN")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "tierkeep", "static_configs": [{"targets": targets}]}],
    }
    file = scratch / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    log = scratch / "prometheus.log"
    with log.open("w") as said:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={file}",
                f"--storage.tsdb.path={scratch / 'series'}",
                f"--web.listen-address={address}",
                f"--web.console.libraries={scratch}",
                f"--web.console.templates={scratch}",
            ],
            stdout=said,
            stderr=said,
        )
    try:
        with httpx.Client(base_url=f"http://{address}", trust_env=False) as client:
            deadline = time.monotonic() + 30
            while not _ready(client):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        process.wait(timeout=30)


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def samples(client: httpx.Client, text: str) -> list[float]:
    """The values that a query has now."""
    answer = client.get("/api/v1/query", params={"query": text})
    assert answer.status_code == 200, f"{text}: {answer.text}"
    return [float(sample["value"][1]) for sample in answer.json()["data"]["result"]]


def scraped(client: httpx.Client, text: str, at_least: float) -> None:
    """Waits until a query has this value."""
    deadline = time.monotonic() + 30
    while not any(value >= at_least for value in samples(client, text)):
        assert time.monotonic() < deadline, f"{text} has not reached {at_least}"
        time.sleep(0.2)
