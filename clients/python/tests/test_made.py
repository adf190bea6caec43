"""The sync modules are what the tool makes of the async ones."""

import importlib.util
import pathlib
import types


def tool() -> types.ModuleType:
    path = pathlib.Path(__file__).parents[1] / "tools" / "make_sync.py"
    spec = importlib.util.spec_from_file_location("make_sync", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_sync_modules_are_up_to_date() -> None:
    wanted: dict[pathlib.Path, str] = tool().modules()
    assert wanted
    for path, text in wanted.items():
        assert path.read_text() == text, f"{path.name}: run tools/make_sync.py"
        assert "await" not in text
        assert "anyio" not in text
