"""Compares what the client knows with what a service says of itself in `/openapi.json`."""

from __future__ import annotations

import dataclasses
import datetime
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tierkeep import results
from tierkeep._decode import hints, json_fields, marked
from tierkeep._protocol import Empty, Route

METHODS = {"get", "put", "patch", "post", "delete"}
# The service describes these as objects and no further: their fields are the caller's.
UNDESCRIBED = {results.HrRecord, results.HrPage}
SCALARS: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def differences(document: dict[str, Any], routes: Iterable[Route[object]], codes: Iterable[str]) -> list[str]:
    """Everything that one side has and the other lacks."""
    served = dict(operations(document))
    known = {route.operation: route for route in routes}
    found = [f"the client has no {operation}" for operation in served.keys() - known.keys()]
    found += [f"the service has no {operation}" for operation in known.keys() - served.keys()]
    for operation in sorted(served.keys() & known.keys()):
        path, method, described = served[operation]
        found += [f"{operation}: {it}" for it in of_route(document, known[operation], path, method, described)]
    found += [f"the client has no code {code}" for code in codes_of(document) - set(codes)]
    found += [f"the service has no code {code}" for code in set(codes) - codes_of(document)]
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, tuple[str, str, dict[str, Any]]]]:
    """Path, method and description of each operation."""
    for path, item in document["paths"].items():
        for method in item.keys() & METHODS:
            yield item[method]["operationId"], (path, method.upper(), item[method])


def codes_of(document: dict[str, Any]) -> set[str]:
    """The stable codes that the document names."""
    texts = [
        response["description"]
        for _, (_, _, described) in operations(document)
        for response in described["responses"].values()
        if "application/problem+json" in response.get("content", {})
    ]
    codes = {code for text in texts for code in re.findall(r"`(\w+)`: ", text)}
    # Those of paths and methods that do not exist are in the introduction.
    return codes | set(re.findall(r"40\d `(\w+)`", document["info"]["description"]))


def of_route(
    document: dict[str, Any], route: Route[object], path: str, method: str, described: dict[str, Any]
) -> Iterator[str]:
    """The differences of one operation."""
    if (path, method) != (route.path, route.method):
        yield f"{method} {path} is not {route.method} {route.path}"
    parameters = described.get("parameters", [])
    for place, names in (("query", route.query), ("header", route.headers)):
        served = {it["name"] for it in parameters if it["in"] == place}
        if served != set(names):
            yield f"{place} {sorted(served)} is not {sorted(names)}"
    yield from of_body(document, route, described.get("requestBody"))
    answers = {
        int(status): next((body["schema"] for body in response.get("content", {}).values()), None)
        for status, response in described["responses"].items()
        if "application/problem+json" not in response.get("content", {})
    }
    if answers.keys() != route.returns.keys():
        yield f"statuses {sorted(answers)} are not {sorted(route.returns)}"
    for status in answers.keys() & route.returns.keys():
        yield from of_answer(document, route.returns[status], answers[status], f"{status}")


def of_body(document: dict[str, Any], route: Route[object], body: dict[str, Any] | None) -> Iterator[str]:
    """The differences of a request's body."""
    if (body is None) != (route.fields is None):
        yield f"the body is {'not ' if body is None else ''}described"
    if body is None or route.fields is None:
        return
    if route.media_type not in body["content"]:
        yield f"the body is no {route.media_type}"
        return
    schema = resolved(document, body["content"][route.media_type]["schema"])
    names = {name for one in schema.get("anyOf", [schema]) for name in one.get("properties", {})}
    if names != set(route.fields):
        yield f"the body's fields {sorted(names)} are not {sorted(route.fields)}"


def of_answer(document: dict[str, Any], kind: object, schema: Any, where: str) -> Iterator[str]:
    """The differences of an answer."""
    if isinstance(kind, Empty):
        # A status without a body, or the 202 of what another status says in a body.
        if schema is not None:
            yield f"{where} has a body"
    elif schema is None:
        yield f"{where} has no body"
    else:
        yield from of_type(document, kind, schema, where)


def of_type(document: dict[str, Any], kind: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    """The differences of a type and a schema."""
    schema = resolved(document, schema)
    if kind is Any or kind in UNDESCRIBED:
        return
    if typing.get_origin(kind) is types.UnionType:
        yield from of_union(document, kind, schema, where)
    elif typing.get_origin(kind) is tuple:
        if schema.get("type") != "array":
            yield f"{where} is no array"
        else:
            yield from of_type(document, typing.get_args(kind)[0], schema["items"], f"{where}[]")
    elif dataclasses.is_dataclass(kind):
        yield from of_object(document, typing.cast("type", kind), schema, where)
    elif kind is datetime.datetime:
        if (schema.get("type"), schema.get("format")) != ("string", "date-time"):
            yield f"{where} is no date"
    elif kind is dict or typing.get_origin(kind) is dict:
        if schema.get("type") != "object":
            yield f"{where} is no object"
    elif schema.get("type") != SCALARS[kind] or schema.get("format") == "date-time":
        yield f"{where} is {schema.get('type')}, {schema.get('format')}, not {SCALARS[kind]}"


def of_union(document: dict[str, Any], kind: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    """The differences of a type that is one of several."""
    kinds = [one for one in typing.get_args(kind) if one is not types.NoneType]
    nullable = types.NoneType in typing.get_args(kind)
    schemas = schema.get("anyOf", [schema])
    null = any("null" in (one.get("type") or ()) for one in schemas)
    schemas = [one for one in schemas if one.get("type") != "null"]
    # A field that may be missing is `None` here too.
    if null and not nullable:
        yield f"{where} may be null"
    if len(schemas) != len(kinds):
        yield f"{where} is one of {len(schemas)}, not of {len(kinds)}"
        return
    for one, described in zip(kinds, schemas, strict=True):
        kept = [name for name in described.get("type", ()) if name != "null"]
        single = described | {"type": kept[0]} if isinstance(described.get("type"), list) else described
        yield from of_type(document, one, single, where)


def of_object(document: dict[str, Any], kind: type, schema: dict[str, Any], where: str) -> Iterator[str]:
    """The differences of a dataclass and an object."""
    if schema.get("type") != "object":
        yield f"{where} is no object"
        return
    if marked(kind, "whole"):
        return
    fields = json_fields(kind)
    properties: Mapping[str, Any] = schema.get("properties", {})
    for name in properties.keys() - fields.keys():
        yield f"{where}.{name} is not in {kind.__name__}"
    for name in fields.keys() - properties.keys():
        yield f"{where}.{name} is only in {kind.__name__}"
    needed = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if needed != set(schema.get("required", [])):
        yield f"{where} requires {sorted(schema.get('required', []))}, {kind.__name__} {sorted(needed)}"
    for name in properties.keys() & fields.keys():
        yield from of_type(document, hints(kind)[fields[name].name], properties[name], f"{where}.{name}")


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference leads to."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema
