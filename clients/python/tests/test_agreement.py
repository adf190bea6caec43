"""The client and the service know the same routes, fields and codes."""

from __future__ import annotations

import copy
import inspect
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from agreement import codes_of, differences, operations
from support import Service

import tierkeep
from tierkeep import _routes
from tierkeep.errors import BY_CODE

PAGES = pathlib.Path(__file__).parents[3] / "docs" / "errors"


@pytest.fixture(scope="session")
def document(embedded: Service) -> dict[str, Any]:
    with tierkeep.Client(embedded.base) as client:
        return client.openapi()


def test_both_know_the_same(document: dict[str, Any]) -> None:
    assert differences(document, _routes.ALL, BY_CODE) == []
    assert len(dict(operations(document))) == len(_routes.ALL)


def test_each_code_has_a_page() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == set(BY_CODE)


@pytest.mark.parametrize("client", [tierkeep.Client, tierkeep.AsyncClient])
def test_each_operation_has_a_method_and_each_method_an_operation(client: type) -> None:
    public = {name for name, _ in inspect.getmembers(client, callable) if not name.startswith("_")}
    others = {"with_options", "close", "aclose"} | {name for name in public if name.startswith("iter_")}
    assert public - others == {route.operation for route in _routes.ALL}


def remove_route(document: dict[str, Any]) -> None:
    del document["paths"]["/v1/admin/alerts"]


def add_route(document: dict[str, Any]) -> None:
    document["paths"]["/v1/new"] = {"get": {"operationId": "new", "responses": {}}}


def move_route(document: dict[str, Any]) -> None:
    document["paths"]["/v2/route"] = document["paths"].pop("/v1/route")


def add_field(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["Changed"]["properties"]["planted"] = {"type": "string"}


def add_nested_field(document: dict[str, Any]) -> None:
    erasure = document["components"]["schemas"]["Explanation"]["properties"]["erasure"]["anyOf"][0]
    erasure["properties"]["planted"] = {"type": "string"}


def remove_field(document: dict[str, Any]) -> None:
    del document["components"]["schemas"]["Alert"]["properties"]["message"]


def make_field_optional(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["Migration"]["required"].remove("status")


def change_type(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["Counted"]["properties"]["moved"]["type"] = "string"


def make_nullable(document: dict[str, Any]) -> None:
    moved = document["components"]["schemas"]["Simulation"]["properties"]["next_attempt_at"]
    moved["type"] = ["string", "integer", "null"]
    document["components"]["schemas"]["Retried"]["properties"]["retried"]["type"] = ["integer", "null"]


def add_parameter(document: dict[str, Any]) -> None:
    listed = document["paths"]["/v1/admin/audit"]["get"]
    listed["parameters"].append({"name": "planted", "in": "query"})


def add_body_field(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["RunRequest"]["properties"]["planted"] = {"type": "string"}


def add_status(document: dict[str, Any]) -> None:
    document["paths"]["/v1/user"]["get"]["responses"]["206"] = {"description": "a part"}


def add_code(document: dict[str, Any]) -> None:
    document["paths"]["/v1/user"]["get"]["responses"]["409"]["description"] += "; `planted`: Planted"


def remove_code(document: dict[str, Any]) -> None:
    for _, (_, _, described) in operations(document):
        for response in described["responses"].values():
            response["description"] = response["description"].replace("`mover_paused`: ", "")


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (remove_route, "the service has no list_alerts"),
        (add_route, "the client has no new"),
        (move_route, "explain_route: GET /v2/route is not GET /v1/route"),
        (add_field, "patch_section: 200.planted is not in Changed"),
        (add_nested_field, "explain_user: 200.erasure.planted is not in Erasure"),
        (remove_field, "list_alerts: 200.items[].message is only in Alert"),
        (make_field_optional, "list_migrations: 200.items[] requires"),
        (change_type, "run_migration: 200.moved is string, None, not integer"),
        (make_nullable, "retry_migrations: 200.retried is ['integer', 'null'], None, not integer"),
        (add_parameter, "list_audit: query"),
        (add_body_field, "run_migration: the body's fields"),
        (add_status, "read_user: statuses [200, 206, 304] are not [200, 304]"),
        (add_code, "the client has no code planted"),
        (remove_code, "the service has no code mover_paused"),
    ],
)
def test_a_planted_difference_is_found(
    document: dict[str, Any], plant: Callable[[dict[str, Any]], None], found: str
) -> None:
    planted = copy.deepcopy(document)
    plant(planted)
    assert any(it.startswith(found) for it in differences(planted, _routes.ALL, BY_CODE))


def test_a_route_or_a_code_that_only_the_client_has_is_found(document: dict[str, Any]) -> None:
    fewer = [route for route in _routes.ALL if route is not _routes.LIVE]
    assert differences(document, fewer, BY_CODE) == ["the client has no live"]
    assert differences(document, _routes.ALL, [*BY_CODE, "planted"]) == ["the service has no code planted"]
    assert differences(document, _routes.ALL, codes_of(document) - {"conflict"}) == ["the client has no code conflict"]
