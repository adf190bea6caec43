"""The book, `docs/`: its pages, what they link to, and the commands that they show.

How a page says what is done with a block of commands (```console, ```sh, ```js and the like), in a comment before it:

- nothing: a test runs the block as it is printed, and what it prints must be what the page shows, where `…` stands for
  anything
- `<!-- run by PATH -->`: another test of the repository runs it
- `<!-- not run: REASON -->`: nothing runs it, and why
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shlex
import subprocess
from typing import Iterator

import debian
from markdown_it import MarkdownIt
from markdown_it.token import Token

INDEX = "docs/README.md"
# Pages that belong to the book and lie elsewhere.
BESIDE = [
    "README.md",
    "deploy/README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "ARCHITECTURE.md",
]
# Blocks that say what to type.
TYPED = {"console", "sh", "bash", "js"}
MARK = re.compile(r"<!-- (?:run by (?P<by>\S+)|not run: (?P<reason>[^>]+)) -->")
# Kinds of blocks of a page that say here, not there, what is done with them.
ELSEWHERE = {
    ("docs/operations/topologies.md", "js"): "<!-- run by crates/tierkeep/tests/acceptance/sharded.rs -->",
    ("docs/operations/topologies.md", "sh"): "<!-- run by crates/tierkeep/tests/acceptance/topologies.rs -->",
}
# What pages write for a value, where the command line looks at it before it prints its help.
VALUES = {
    "COUNT:HASH": f"1:{'0' * 64}",
    "D": "24h",
    "HEX": "507f1f77bcf86cd799439011",
    "ID": "internal_507f1f77bcf86cd799439011",
    "N": "1",
    "SHELL": "bash",
    "USER_ID": "internal_507f1f77bcf86cd799439011",
}
PARSER = MarkdownIt("commonmark").enable("table")


@dataclasses.dataclass
class Block:
    """Commands that a page shows."""

    page: str
    line: int
    kind: str
    text: str
    by: str | None = None
    reason: str | None = None

    @property
    def place(self) -> str:
        """Its position: file and line."""
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[tuple[str, str]]:
        """Each command with what it prints."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            # A command continues after a backslash.
            while command.endswith("\\"):
                more, _, printed = printed.partition("\n")
                command = f"{command[:-1]} {more.removeprefix('> ').strip()}"
            yield command, printed


class Book:
    """The pages of a tree."""

    def __init__(self, root: pathlib.Path = debian.ROOT) -> None:
        self.root = root
        found = [path.relative_to(root).as_posix() for path in sorted((root / "docs").rglob("*.md"))]
        self.pages = found + [page for page in BESIDE if (root / page).is_file()]

    def text(self, page: str) -> str:
        """The text of a page."""
        return (self.root / page).read_text()

    def tokens(self, page: str) -> list[Token]:
        """A page, parsed."""
        return PARSER.parse(self.text(page))

    def links(self, page: str) -> list[str]:
        """Where a page links to, beginning with the page's own folder where the link is relative."""
        found = []
        for token in self.tokens(page):
            for child in token.children or []:
                target = child.attrGet("href") if child.type == "link_open" else child.attrGet("src")
                if target and child.type in ("link_open", "image"):
                    found.append(str(target))
        return found

    def anchors(self, page: str) -> set[str]:
        """The anchors that its headings have on the forge."""
        tokens, found = self.tokens(page), set()
        for heading, content in zip(tokens, tokens[1:], strict=False):
            if heading.type == "heading_open":
                text = "".join(child.content for child in content.children or [])
                found.add(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
        return found

    def target(self, page: str, link: str) -> tuple[str, str] | None:
        """The file and the anchor that a relative link leads to."""
        if re.match(r"\w+:", link):
            return None
        path, _, anchor = link.partition("#")
        if not path:
            return page, anchor
        full = (self.root / page).parent.joinpath(path).resolve()
        try:
            return full.relative_to(self.root.resolve()).as_posix(), anchor
        except ValueError:
            return f"outside: {path}", anchor

    def dead_links(self) -> list[str]:
        """Links to files and headings that do not exist."""
        findings = []
        for page in self.pages:
            for link in self.links(page):
                target = self.target(page, link)
                if target is None:
                    continue
                path, anchor = target
                if not (self.root / path).exists():
                    findings.append(f"{page}: no {link}")
                elif anchor and path.endswith(".md") and anchor not in self.anchors(path):
                    findings.append(f"{page}: no heading for {link}")
        return findings

    def unreachable(self) -> list[str]:
        """Pages to which no chain of links leads from the index."""
        if INDEX not in self.pages:
            return [f"there is no {INDEX}"]
        seen, waiting = {INDEX}, [INDEX]
        while waiting:
            page = waiting.pop()
            for link in self.links(page):
                target = self.target(page, link)
                # A link to a folder shows the list of its pages.
                reached = [
                    it
                    for it in self.pages
                    if target and target[0] in (it, pathlib.PurePath(it).parent.as_posix())
                ]
                waiting += [it for it in reached if it not in seen]
                seen |= set(reached)
        return [page for page in self.pages if page not in seen]

    def blocks(self, page: str) -> list[Block]:
        """The blocks of commands of a page."""
        tokens, found = self.tokens(page), []
        for number, token in enumerate(tokens):
            kind = token.info.split(" ")[0] if token.type == "fence" else ""
            if kind not in TYPED:
                continue
            block = Block(page, (token.map or [0])[0] + 1, kind, token.content)
            before = tokens[number - 1] if number else None
            said = before.content if before is not None and before.type == "html_block" else ""
            if mark := MARK.search(said or ELSEWHERE.get((page, kind), "")):
                block.by, block.reason = mark["by"], mark["reason"]
            found.append(block)
        return found

    def unmarked(self) -> list[str]:
        """Blocks that no test runs and that do not say why, and marks that say nothing."""
        findings = []
        for page in self.pages:
            for block in self.blocks(page):
                if block.by and not (self.root / block.by).is_file():
                    findings.append(f"{block.place}: no {block.by}")
                if block.reason is not None and len(block.reason.split()) < 3:
                    findings.append(f"{block.place}: no reason")
                if block.kind != "console" and not (block.by or block.reason):
                    findings.append(
                        f"{block.place}: only console blocks are run; say what runs this one, or why nothing does"
                    )
            for token in self.tokens(page):
                if token.type == "code_block":
                    findings.append(f"{page}:{(token.map or [0])[0] + 1}: indented; a fence says what it is")
        return findings

    def called(self, page: str) -> list[str]:
        """Calls of tierkeep that a page's text names: `tierkeep …` in lines, tables, and blocks that are not run."""
        found: list[str] = []
        # What was is not what is.
        if page == "CHANGELOG.md" or page.startswith("docs/adr/"):
            return found
        for token in self.tokens(page):
            for child in token.children or []:
                if child.type == "code_inline" and child.content.startswith("tierkeep "):
                    found.append(child.content)
        for block in self.blocks(page):
            if block.by or block.reason:
                found += [line.removeprefix("$ ") for line in block.text.splitlines() if "tierkeep " in line]
        return [call for call in found if call.split()[0] == "tierkeep"]

    def running(self) -> dict[str, list[Block]]:
        """For each page, the blocks that are run here."""
        by_page = {page: [it for it in self.blocks(page) if not (it.by or it.reason)] for page in self.pages}
        return {page: blocks for page, blocks in by_page.items() if blocks}


def not_understood(calls: list[str], binary: str) -> list[str]:
    """Calls that the command line does not know: their names and options are read, and nothing is done."""
    findings = []
    for call in dict.fromkeys(calls):
        # `a|b` stands for one of both, `[…]` for what may be left out.
        words = [
            word.split("|")[0] for word in shlex.split(re.sub(r"[\[\]]", "", call.replace("\\|", "|")))[1:]
        ]
        words = [
            VALUES.get(word, re.sub(r"^\d+:\w+…$", VALUES["COUNT:HASH"], word))
            for word in words
            if word != "…"
        ]
        ran = subprocess.run([binary, *words, "--help"], capture_output=True, text=True, timeout=300)
        if ran.returncode != 0:
            findings.append(f"{call}: {ran.stderr.strip().splitlines()[0]}")
    return findings


def says(actual: str, expected: str) -> bool:
    """Whether this was printed, `…` standing for anything within a line; runs of spaces are one."""
    lines = [[" ".join(line.split()) for line in text.strip().splitlines()] for text in (actual, expected)]
    if len(lines[0]) != len(lines[1]):
        return False
    patterns = [".*".join(re.escape(part) for part in line.split("…")) for line in lines[1]]
    return all(re.fullmatch(pattern, line) for pattern, line in zip(patterns, lines[0], strict=True))
