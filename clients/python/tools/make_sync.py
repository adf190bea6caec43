"""Makes ``tierkeep._sync`` from ``tierkeep._async``: the same text, without what waits.

Run it after each change of a module below ``_async``; a test compares what it would write with what is there.
"""

from __future__ import annotations

import pathlib
import re

PACKAGE = pathlib.Path(__file__).parents[1] / "src" / "tierkeep"
REPLACEMENTS = (
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\baclose\b", "close"),
    # Only tasks can be cancelled.
    (r"\bto_its_end\(self\._http, request\)", "self._http.send(request)"),
    (r"^from \.\._cancellation import to_its_end\n", ""),
    (r"\banyio\.sleep\b", "time.sleep"),
    (r"^import anyio$", "import time"),
    (r"\basyncio\.run\(([^\n]*)\)$", r"\1"),
    (r"^    >>> import asyncio\n", ""),
    (r"\bany number of tasks\b", "any number of threads"),
    (r"\b_async\b", "_sync"),
)
HEADER = "# Made from {source} by tools/make_sync.py: change that file and run the tool.\n"


def made(source: pathlib.Path) -> str:
    """The sync form of an async module."""
    text = source.read_text()
    for pattern, replacement in REPLACEMENTS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return HEADER.format(source=f"_async/{source.name}") + text


def modules() -> dict[pathlib.Path, str]:
    """What each module below ``_sync`` has to hold."""
    sources = sorted((PACKAGE / "_async").glob("*.py"))
    return {PACKAGE / "_sync" / source.name: made(source) for source in sources if source.name != "__init__.py"}


def main() -> None:
    """Writes them."""
    for path, text in modules().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
