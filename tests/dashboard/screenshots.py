"""Makes the pictures of docs/dashboard.md, from the scene that the tests of the dashboard look at.

PYTHONPATH=clients/python/src TIERKEEP_BIN=… TIERKEEP_TEST_MONGODB_URL=… CHROMIUM_BIN=… python tests/dashboard/screenshots.py
"""

from __future__ import annotations

import os
import pathlib
import sys

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "properties"))

import scene  # noqa: E402

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "pictures"
WIDTH, HEIGHT = 1100, 900


def main() -> None:
    """Takes every picture."""
    FOLDER.mkdir(exist_ok=True)
    with scene.shown() as shown:
        user = f"/ui/users/internal_{shown.poisoned}"
        take(shown, {"overview": "/ui/", "user": user, "backup": "/ui/backup", "databases": "/ui/databases"})
    with scene.conflict() as shown:
        take(shown, {"migrations": "/ui/migrations"})
    with scene.outage(["raseen_main_user", "evaluation_audit"]) as shown:
        take(shown, {"outage": "/ui/"})


def take(shown: scene.Scene, pages: dict[str, str]) -> None:
    """Signs in and takes the pages: names of pictures and paths."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM_BIN"], args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(shown.base + "/")
        page.get_by_label("Admin JWT").fill(shown.admin())
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(shown.base + "/ui/")
        for name, path in pages.items():
            page.goto(shown.base + path)
            page.screenshot(path=FOLDER / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
