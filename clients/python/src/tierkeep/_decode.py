"""From JSON to dataclasses: strict about what is there, silent about what a newer service adds."""

from __future__ import annotations

import builtins
import dataclasses
import datetime
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

T = TypeVar("T")


class UndecodableError(ValueError):
    """The value is not of the type; the message names the place and the types, never the content."""


def named(json: str) -> Any:
    """A field whose name in JSON is no Python name."""
    return dataclasses.field(metadata={"json": json})


def from_headers(read: Callable[[Any], Any]) -> Any:
    """A field that is read from the answer's status and headers, and not from its body."""
    return dataclasses.field(default=None, metadata={"answer": read})


def rest() -> Any:
    """A field that holds whatever the other fields do not name."""
    return dataclasses.field(default_factory=dict[str, Any], metadata={"rest": True})


def whole() -> Any:
    """A field that holds the whole body."""
    return dataclasses.field(metadata={"whole": True})


def json_fields(kind: type) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a dataclass that are in JSON, by their names there."""
    return {
        field.metadata.get("json", field.name): field
        for field in dataclasses.fields(kind)
        if not field.metadata.keys() & {"answer", "rest", "whole"}
    }


def marked(kind: type, mark: str) -> str | None:
    """The field with this mark, ``rest`` or ``whole``."""
    return next((field.name for field in dataclasses.fields(kind) if mark in field.metadata), None)


@cache
def hints(kind: type) -> dict[str, Any]:
    """The types of the fields of a dataclass."""
    return typing.get_type_hints(kind)


def decode(kind: type[T], value: object, where: str = "body") -> T:
    """The value as this type.

    >>> from tierkeep import results
    >>> decode(results.Health, {"status": "ok", "reasons": [], "new": 1})
    Health(status='ok', reasons=())
    >>> decode(results.Health, {"status": "ok"})
    Traceback (most recent call last):
    tierkeep._decode.UndecodableError: body.reasons is missing
    """
    return cast(T, _value(kind, value, where))


def _value(kind: Any, value: object, where: str) -> object:
    if typing.get_origin(kind) is not None:
        return _generic(kind, value, where)
    if dataclasses.is_dataclass(kind):
        return _object(cast("type", kind), _mapping(value, where), where)
    if kind is datetime.datetime:
        return _moment(value, where)
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        return float(value)
    return _typed(kind, value, where)


def _generic(kind: Any, value: object, where: str) -> object:
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case types.UnionType:
            return _one_of(arguments, value, where)
        case builtins.tuple:
            return tuple(_items(arguments[0], value, where))
        case _:
            return _mapping(value, where)


def _typed(kind: type[T], value: object, where: str) -> T:
    # `bool` is an `int` to Python, and not to JSON.
    if type(value) is not kind:
        raise UndecodableError(f"{where} is {type(value).__name__}, not {kind.__name__}")
    return value


def _mapping(value: object, where: str) -> dict[str, object]:
    return cast("dict[str, object]", _typed(dict, value, where))


def _items(kind: Any, value: object, where: str) -> list[object]:
    items = cast("list[object]", _typed(list, value, where))
    return [_value(kind, item, f"{where}[{index}]") for index, item in enumerate(items)]


def _one_of(kinds: tuple[Any, ...], value: object, where: str) -> object:
    if value is None and types.NoneType in kinds:
        return None
    failures: list[str] = []
    for kind in kinds:
        if kind is types.NoneType:
            continue
        try:
            return _value(kind, value, where)
        except UndecodableError as failure:
            failures.append(str(failure))
    raise UndecodableError(", and ".join(failures))


def _moment(value: object, where: str) -> datetime.datetime:
    text = _typed(str, value, where)
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UndecodableError(f"{where} is not a date") from None
    if moment.tzinfo is None:
        raise UndecodableError(f"{where} must be a date with an offset")
    return moment


def _object(kind: type, value: dict[str, object], where: str) -> object:
    types_of = hints(kind)
    known = json_fields(kind)
    given: dict[str, object] = {}
    for name, field in known.items():
        if name in value:
            given[field.name] = _value(types_of[field.name], value[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UndecodableError(f"{where}.{name} is missing")
    if (entire := marked(kind, "whole")) is not None:
        given[entire] = value
    if (remaining := marked(kind, "rest")) is not None:
        given[remaining] = {name: item for name, item in value.items() if name not in known}
    return kind(**given)
