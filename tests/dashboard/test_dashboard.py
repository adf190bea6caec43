"""The dashboard in Chromium: what an operator does at night, and who can read it."""

from __future__ import annotations

from typing import Iterator

import pytest
import scene
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

SERIOUS = {"serious", "critical"}


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_nobody_is_kept_from_reading_a_page(
    browser: Browser, shown: scene.Scene, scheme: str, width: int
) -> None:
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
        f"/ui/actions/retry?user=internal_{shown.poisoned}",
        "/ui/nothing-here",
    ]:
        page.goto(shown.base + path)
        found[path] = issues(page)
        # Only tables scroll sideways, never the page.
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    context.close()
    assert not any(found.values()), found
    assert not elsewhere


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
