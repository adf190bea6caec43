"""Rules, dashboard and metrics fit each other; each check is shown a fault that it must find."""

from __future__ import annotations

import copy
import json
import pathlib
import re

import debian
import load
import pytest
import watching
import yaml


@pytest.fixture(scope="module")
def rules() -> dict:
    return yaml.safe_load(watching.RULES.read_text())


@pytest.fixture(scope="module")
def dashboard() -> dict:
    return json.loads(watching.DASHBOARD.read_text())


@pytest.fixture(scope="module")
def exposition(served: load.Served) -> watching.Exposition:
    return watching.Exposition(served.metrics())


def test_promtool_accepts_the_rules_and_refuses_a_broken_one(tmp_path: pathlib.Path) -> None:
    assert watching.promtool("check", "rules", watching.RULES).returncode == 0
    broken = tmp_path / "rules.yaml"
    broken.write_text(watching.RULES.read_text().replace("max by (database) (", "max by database ("))
    assert watching.promtool("check", "rules", broken).returncode != 0


def test_the_rules_fire_on_what_they_are_for(tmp_path: pathlib.Path) -> None:
    ran = watching.promtool("test", "rules", *watching.RULE_TESTS)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    planted = [tmp_path / tests.name for tests in watching.RULE_TESTS]
    for tests, copied in zip(watching.RULE_TESTS, planted, strict=True):
        copied.write_text(tests.read_text())
    for fault in [
        ("lag_seconds) > 900", "lag_seconds) > 90000"),
        ("for: 30m", "for: 3m"),
        ("min by (database)", "max by (database)"),
        ('outcome="failed"', 'outcome="retried"'),
        ("> 0.05", "> 0.5"),
        ("14 * 86400", "15 * 86400"),
        ("docs/alerts/no_process.md", "docs/alerts/none.md"),
    ]:
        text = watching.RULES.read_text()
        assert fault[0] in text
        (tmp_path / "rules.yaml").write_text(text.replace(*fault))
        assert watching.promtool("test", "rules", *planted).returncode != 0, fault


def test_every_rule_has_a_test_that_it_fires_and_one_that_it_rests(rules: dict) -> None:
    files = [yaml.safe_load(tests.read_text()) for tests in watching.RULE_TESTS]
    tests = [test for file in files for test in file["tests"]]
    assert watching.untested(rules, tests) == []
    tests = [test for test in tests if test["name"] != "a move that is late"]
    assert watching.untested(rules, tests) == ["TierkeepMoveLate"]


def test_every_rule_links_to_a_runbook_that_exists(rules: dict) -> None:
    assert watching.without_runbook(rules) == []
    planted = copy.deepcopy(rules)
    first, second, *_ = planted["groups"][0]["rules"]
    del first["annotations"]["runbook_url"]
    second["annotations"]["runbook_url"] = watching.PAGES + "docs/alerts/nothing.md"
    assert len(watching.without_runbook(planted)) == 2


def test_every_kind_of_alert_has_a_page() -> None:
    source = (debian.ROOT / "crates/engine/src/alerts/mod.rs").read_text()
    kinds = set(re.findall(r'Self::\w+ => "(\w+)"', source))
    assert len(kinds) >= 14
    pages = {page.stem for page in (debian.ROOT / "docs/alerts").glob("*.md")}
    assert kinds - pages == set()
    linked = {pathlib.Path(page).stem for page in watching.links(watching.RULES.read_text())}
    # Nothing but kinds and what rules link to.
    assert pages - kinds - linked == {"README"} & pages
    overview = (debian.ROOT / "docs/operations/alerts.md").read_text()
    for kind in kinds:
        assert f"../alerts/{kind}.md" in overview, kind


def test_every_query_parses(dashboard: dict, rules: dict, tmp_path: pathlib.Path) -> None:
    queries = watching.of_dashboard(dashboard) + watching.of_rules(rules)
    assert len(queries) > 20
    (tmp_path / "sound").mkdir()
    assert watching.unparsed(queries, tmp_path / "sound") == []
    (tmp_path / "broken").mkdir()
    broken = [*queries, watching.Query("planted", "sum by (status (rate(tierkeep_requests_total[1m]))")]
    (finding,) = watching.unparsed(broken, tmp_path / "broken")
    assert finding.startswith("planted: ")


def test_what_queries_name_is_served(dashboard: dict, rules: dict, exposition: watching.Exposition) -> None:
    queries = watching.of_dashboard(dashboard) + watching.of_rules(rules)
    assert watching.not_served(queries, exposition) == []
    for text, shown in [
        ("tierkeep_documents_total", ()),
        ('tierkeep_documents{db="raseen_main_user"}', ()),
        ('tierkeep_documents{database="raseen_main"}', ()),
        ("sum by (code) (rate(tierkeep_requests_total[1m]))", ()),
        ("max(tierkeep_due_documents)", ("database",)),
    ]:
        planted = watching.Query("planted", text, shown)
        assert len(watching.not_served([planted], exposition)) == 1, text


def test_promtool_accepts_the_metrics(served: load.Served) -> None:
    text = served.metrics()
    ran = watching.promtool("check", "metrics", text=text)
    assert (ran.returncode, ran.stderr) == (0, "")
    planted = text.replace("tierkeep_migrations_total", "tierkeep_migrations")
    assert watching.promtool("check", "metrics", text=planted).returncode != 0


def test_the_histogram_of_requests_has_the_labels_of_the_page(exposition: watching.Exposition) -> None:
    assert {frozenset(one) for one in exposition.series["tierkeep_request_seconds_bucket"]} == {
        frozenset({"le"})
    }
    assert exposition.series["tierkeep_request_seconds_count"] == [{}]


def test_every_panel_shows_something_of_a_service_under_load(
    dashboard: dict, served: load.Served, tmp_path: pathlib.Path
) -> None:
    address = served.base.removeprefix("http://")
    with watching.prometheus([address], tmp_path) as client:
        watching.scraped(client, "count_over_time(tierkeep_due_documents[1m])", 2)
        served.ask()
        watching.scraped(client, "sum(increase(tierkeep_request_seconds_count[1m]))", 1)
        watching.scraped(client, 'sum(increase(tierkeep_requests_total{status="503"}[1m]))', 0.5)
        empty = []
        for query in watching.of_dashboard(dashboard):
            values = watching.samples(client, query.filled("30s"))
            # Nothing fires on a service that is well.
            if not query.place.startswith("annotation") and not any(value == value for value in values):
                empty.append(query.place)
        assert empty == []
        groups = client.get("/api/v1/rules").json()["data"]["groups"]
        health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
        assert set(health.values()) == {"ok"}, health
        assert len(health) == 9
        assert watching.samples(client, "tierkeep_nothing") == []


def test_the_dashboard_can_be_imported(dashboard: dict, rules: dict) -> None:
    panels = dashboard["panels"]
    titles = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert titles == ["Is data safe?", "The move", "Requests", "Databases", "Alerts"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        # Nothing names a data source of one's own.
        assert panel.get("datasource", {}).get("uid", "${datasource}") == "${datasource}", panel["title"]
    occupied = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & occupied and place["x"] + place["w"] <= 24, panel["title"]
        occupied |= cells
    declared = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) - {"__rate_interval"}
    assert used == declared
    text = watching.DASHBOARD.read_text()
    assert watching.without_page(text) == []
    assert watching.without_page(text + watching.PAGES + "docs/alerts/planted.md") == [
        "docs/alerts/planted.md"
    ]
    shown = watching.links(json.dumps(panels))
    for link in watching.links(watching.RULES.read_text()):
        assert link in shown, link
