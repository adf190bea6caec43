"""The dashboard in Chromium: what an operator does at night, and who can read it."""

from __future__ import annotations

import os
from typing import Iterator

import pytest
import scene
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

SERIOUS = {"serious", "critical"}
CALM = [("shown", "light", 1280), ("shown", "dark", 1280), ("shown", "light", 390), ("shown", "dark", 320)]
# How pages are looked at: all of it with `--full`.
VIEWS = CALM + (
    [(state, scheme, width) for state in ["outage", "conflict"] for _, scheme, width in CALM]
    if os.environ.get("TIERKEEP_TEST_FULL")
    else [("outage", "light", 390), ("conflict", "dark", 1280)]
)
# Tables that have to be scrolled sideways.
SCROLLED = """
() => [...document.querySelectorAll(".scroll")]
  .filter((it) => it.scrollWidth > it.clientWidth + 1).map((it) => it.ariaLabel)
"""
# Elements that hide a part of their own text, and labels of a chart that stick out of it.
CUT = """
() => {
  const hides = (it) => ["hidden", "clip"].includes(getComputedStyle(it).overflowX);
  const cut = [...document.querySelectorAll("body *:not(.unseen, thead)")].filter(
    (it) => hides(it) && it instanceof HTMLElement && it.scrollWidth > it.clientWidth + 1);
  const outside = [...document.querySelectorAll("svg.chart text")].filter((it) => {
    const [box, chart] = [it.getBBox(), it.ownerSVGElement.viewBox.baseVal];
    return box.x < -1 || box.x + box.width > chart.width + 1;
  });
  return [...cut, ...outside].map((it) => it.outerHTML);
}
"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    # Everything works without scripts.
    context = browser.new_context(java_script_enabled=False)
    yield context.new_page()
    context.close()


def sign_in(page: Page, shown: scene.Scene) -> None:
    token = shown.admin()
    page.goto(shown.base + "/")
    page.get_by_label("Admin JWT").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(shown.base + "/ui/")
    assert token not in page.content()


@pytest.mark.parametrize("state, scheme, width", VIEWS)
def test_every_page_can_be_read(
    browser: Browser, request: pytest.FixtureRequest, state: str, scheme: str, width: int
) -> None:
    shown: scene.Scene = request.getfixturevalue(state)
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    page = context.new_page()
    elsewhere = []
    page.on(
        "request", lambda request: request.url.startswith(shown.base) or elsewhere.append(request.url)
    )
    page.goto(shown.base + "/")
    found = {"/": issues(page)}
    sign_in(page, shown)
    for path in [
        "/ui/",
        "/ui/users",
        f"/ui/users/{shown.poisoned}",
        "/ui/users/nobody-at-all",
        "/ui/migrations",
        "/ui/backup",
        "/ui/databases",
        "/ui/databases?contents=all",
        "/ui/alerts",
        "/ui/audit",
        "/ui/configuration",
        "/ui/actions/pause",
        "/ui/actions/verify",
        "/ui/actions/test-alerts",
        f"/ui/actions/retry?user=internal_{shown.poisoned}",
        "/ui/nothing-here",
    ]:
        page.goto(shown.base + path)
        found[path] = issues(page)
        # Only tables scroll sideways, never the page; on narrow pages they are stacked.
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate(CUT) == [], path
        assert width > 640 or page.evaluate(SCROLLED) == [], path
        if state == "outage":
            # Every page keeps its navigation.
            assert page.get_by_role("navigation").count() or path == "/ui/nothing-here", path
    context.close()
    assert not any(found.values()), found
    assert not elsewhere


def test_pages_in_an_outage_say_unknown_and_never_zero(page: Page, outage: scene.Scene) -> None:
    sign_in(page, outage)
    for path in ["/ui/", "/ui/migrations", "/ui/backup", "/ui/alerts", "/ui/audit", "/ui/databases"]:
        page.goto(outage.base + path)
        text = page.inner_text("main").lower()
        unavailable = ["unknown", "unavailable", "not answering: 2 of 7"]
        assert any(word in text for word in unavailable), path
        for lie in ["no document is quarantined", "nothing is due", "no alert is open", "no moves yet"]:
            assert lie not in text, path


def test_an_open_page_stays_current_and_says_when_it_is_not(
    browser: Browser, shown: scene.Scene
) -> None:
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, shown)
    expect(page.get_by_role("link", name="Pause…")).to_be_visible()
    assert shown.deployed.run("migrate", "pause").returncode == 0
    try:
        expect(page.get_by_role("link", name="Resume…")).to_be_visible(timeout=30_000)
    finally:
        assert shown.deployed.run("migrate", "resume").returncode == 0
    expect(page.get_by_role("link", name="Pause…")).to_be_visible(timeout=30_000)
    expect(page.locator("#stale")).to_be_hidden()
    context.set_offline(True)
    expect(page.locator("#stale")).to_be_visible(timeout=30_000)
    context.set_offline(False)
    expect(page.locator("#stale")).to_be_hidden(timeout=30_000)
    context.close()


def test_an_operator_sends_a_test_message_and_releases_a_document(
    page: Page, shown: scene.Scene
) -> None:
    sign_in(page, shown)
    page.get_by_role("link", name="Alerts", exact=True).click()
    page.get_by_role("link", name="Send a test message…").click()
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#notice")).to_contain_text("No channel is configured")

    page.get_by_role("link", name="Migrations").click()
    page.get_by_role("link", name="Release… <b>odd</b>").click()
    page.get_by_role("button", name="Release").click()
    expect(page.locator("#notice")).to_contain_text("Released <b>odd</b>")
    listed = shown.deployed.json("quarantine", "list")["items"]
    assert [entry["document_id"] for entry in listed] == []
    # It still cannot be moved.
    shown.deployed.run("migrate", "run")
    listed = shown.deployed.json("quarantine", "list")["items"]
    assert [entry["document_id"] for entry in listed] == ["<b>odd</b>"]


def test_an_operator_finds_a_user_pauses_sees_a_failure_and_retries_it(
    page: Page, shown: scene.Scene
) -> None:
    sign_in(page, shown)
    page.get_by_role("searchbox").fill(f"INTERNAL_{shown.young.upper()}")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"internal_{shown.young}")
    expect(page.get_by_text("the copy in raseen_temp_user")).to_be_visible()
    expect(page.get_by_text("what is in the document")).to_have_count(0)

    page.get_by_role("link", name="Overview").click()
    page.get_by_role("link", name="Pause…").click()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status")).to_contain_text("paused everywhere")
    assert shown.deployed.json("status")["paused"] is True
    page.get_by_role("link", name="Resume…").click()
    page.get_by_role("button", name="Resume").click()
    assert shown.deployed.json("status")["paused"] is False

    user = f"internal_{shown.poisoned}"
    expect(page.get_by_text("1 move has failed permanently")).to_be_visible()
    expect(page.get_by_text("<b>odd</b>")).to_be_visible()
    shown.mend()
    page.get_by_role("link", name=f"Retry… the move of {user}").click()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("status")).to_contain_text("1 failed move is pending again")
    page.get_by_role("link", name="Overview").click()
    page.get_by_role("link", name="Run now…").click()
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("status")).to_contain_text("A run has started")
    assert shown.moved(user)
    page.goto(f"{shown.base}/ui/users/{user}")
    expect(page.get_by_text("Main and its backup agree")).to_be_visible()

    page.get_by_role("link", name="Backup", exact=True).click()
    page.get_by_role("link", name="Verify now…").click()
    page.get_by_role("button", name="Verify now").click()
    expect(page.get_by_role("status")).to_contain_text("main and its backup agree")

    page.get_by_role("button", name="Sign out").click()
    page.goto(shown.base + "/ui/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def issues(page: Page) -> list[str]:
    """What axe finds serious."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {node['html']}"
        for violation in violations
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]
