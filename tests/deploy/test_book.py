"""The book is whole and true: its pages lead to each other, and its commands run; each check finds a planted fault."""

from __future__ import annotations

import pathlib
import shutil
from typing import Iterator

import book
import debian
import deployment
import pytest
import trial

BOOK = book.Book()
RUNNING = BOOK.running()


@pytest.fixture(scope="module")
def prepared() -> Iterator[deployment.Deployment]:
    yield from trial.prepared()


@pytest.fixture
def planted(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the pages, to plant faults in."""
    shutil.copytree(debian.ROOT / "docs", tmp_path / "docs")
    for page in book.BESIDE:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        shutil.copy(debian.ROOT / page, tmp_path / page)
    return tmp_path


def test_every_link_leads_somewhere(planted: pathlib.Path) -> None:
    assert BOOK.dead_links() == []
    page = planted / "docs" / "compare.md"
    page.write_text(
        page.read_text() + "\n[a](nothing.md) [b](#no-such-heading) [c](try.md#no-such-heading)\n"
    )
    found = [finding for finding in book.Book(planted).dead_links() if finding.startswith("docs/compare.md")]
    assert len(found) >= 3
    assert "docs/compare.md: no nothing.md" in found


def test_every_page_is_reached_from_the_index(planted: pathlib.Path) -> None:
    assert BOOK.unreachable() == []
    (planted / "docs" / "hidden.md").write_text("# Hidden\n")
    assert book.Book(planted).unreachable() == ["docs/hidden.md"]
    (planted / book.INDEX).unlink()
    assert book.Book(planted).unreachable() != []


def test_every_block_of_commands_is_run_or_says_why_not(planted: pathlib.Path) -> None:
    assert BOOK.unmarked() == []
    page = planted / "docs" / "try.md"
    page.write_text(
        page.read_text()
        + "\n```sh\nrm -r data\n```\n\n<!-- not run: no -->\n\n```console\n$ true\n```\n"
        + "\n<!-- run by tests/none.py -->\n\n```console\n$ true\n```\n\n    indented\n"
    )
    found = [finding for finding in book.Book(planted).unmarked() if finding.startswith("docs/try.md")]
    assert len(found) == 4, found


def test_every_call_that_a_text_names_exists() -> None:
    calls = [call for page in BOOK.pages for call in BOOK.called(page)]
    assert len(calls) > 100
    assert book.not_understood(calls, deployment.BINARY) == []
    for call in ("tierkeep verfiy", "tierkeep verify --fix", "tierkeep migrate stop"):
        assert len(book.not_understood([call], deployment.BINARY)) == 1, call


@pytest.mark.parametrize("page", RUNNING)
def test_the_commands_of_a_page_run(
    page: str, prepared: deployment.Deployment, tmp_path: pathlib.Path
) -> None:
    tried = trial.Trial(prepared, tmp_path)
    try:
        told = "".join(block.text for block in RUNNING[page])
        if "mongodb.env" in told or "tierkeep.env" in told:
            tried.mongodb()
        assert "\n".join(tried.run(RUNNING[page])) == ""
    finally:
        tried.close()


@pytest.mark.parametrize(
    "commands",
    [
        "$ tierkeep status --bogus\n",
        "$ tierkeep explain internal_000000000000000000000000\n",
        "$ tierkeep audit verify\nthe audit trail is intact: 0 entries\nhead: …\n",
        "$ curl http://127.0.0.1:8080/health/live\n",
        "$ exit 0\n$ true\n",
    ],
)
def test_a_command_that_does_not_do_what_the_page_says_is_found(
    commands: str, prepared: deployment.Deployment, tmp_path: pathlib.Path
) -> None:
    block = book.Block("planted.md", 1, "console", commands)
    assert trial.Trial(prepared, tmp_path).run([block])
