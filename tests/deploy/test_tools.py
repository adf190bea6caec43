"""A tool that cannot be had is a failure that says so, never a test that is left out."""

from __future__ import annotations

import pathlib
import subprocess

import debian
import pytest


def test_a_package_that_cannot_be_had_is_a_failure_that_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    tried: list[list[str]] = []

    def unreachable(command: list[str], folder: str | pathlib.Path) -> None:
        tried.append(command)
        raise subprocess.CalledProcessError(100, command, stderr="Could not resolve the mirror")

    monkeypatch.setattr(debian, "CACHE", tmp_path)
    monkeypatch.setattr(debian, "_run", unreachable)
    with pytest.raises(
        debian.Unreachable, match="prometheus cannot be had(.|\n)*Could not resolve the mirror"
    ):
        debian.program("promtool", "prometheus", "PROMTOOL_BIN")
    # With the system's lists, then with lists of its own.
    assert [command[-1] for command in tried] == ["prometheus", "update"]
    # Nothing half-made is taken for a package later.
    assert list((tmp_path / "debian").iterdir()) == []


def test_a_tool_of_ones_own_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMTOOL_BIN", "/opt/promtool")
    assert debian.program("promtool", "prometheus", "PROMTOOL_BIN") == "/opt/promtool"
