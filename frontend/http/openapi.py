"""The OpenAPI description of the REST API, made of the routes and their types."""

from typing import Any

import msgspec

from frontend.http.errors import STATUS_OF_CODE
from frontend.http.models import MAX_ID, ErrorAnswer
from frontend.http.order_fields import NewOrder
from frontend.http.order_lists import LIST_TYPES
from frontend.http.queries import TIMES
from frontend.http.routes import PREFIX, ROUTES, Route
from ipc.bounds import TEXT_PATTERN
from ipc.schema.declarations import FIELDS
from ipc.vocabulary import CONDITIONAL, MAX_CLIENT_ID, UNPRICED, OrderType
from ipc.wire.messages import UserId

_REF = "#/components/schemas/{name}"
_EVERYWHERE = (
    "INVALID_REQUEST",
    "FORBIDDEN",
    "UNSUPPORTED_MEDIA_TYPE",
    "HEADERS_TOO_LARGE",
    "INTERNAL",
)
_KEYED = ("UNAUTHORIZED",)
_IN_PATH: dict[str, tuple[str, dict[str, Any]]] = {
    "order_id": ("the order's id", {"type": "integer", "minimum": 1, "maximum": MAX_ID}),
    "client_order_id": (
        "the user's own id of the order",
        {
            "oneOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_CLIENT_ID},
                {"type": "string", "pattern": TEXT_PATTERN},
            ]
        },
    ),
    "user_id": ("whose", msgspec.json.schema(UserId)),
    "page": ("the name of a page", {"type": "string"}),
}
_WORDS = {
    field.rest: [word.name for word in field.words]
    for field in FIELDS
    if field.words and field.rest in NewOrder.__struct_fields__
}


def describe(version: str, symbols: list[str], default_symbol: str | None) -> dict[str, Any]:
    """Return the description as an object of OpenAPI 3.1."""
    types = [route.answer for route in ROUTES if route.answer is not None]
    types += [route.body for route in ROUTES if route.body is not None]
    _, schemas = msgspec.json.schema_components([*types, ErrorAnswer, NewOrder], ref_template=_REF)
    _refine(schemas, symbols, default_symbol)
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        for path in [PREFIX + route.path, *([route.path] if route.unprefixed else [])]:
            paths.setdefault(path, {})[route.method.lower()] = _operation(route, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Shardbook",
            "version": version,
            "description": (
                "Prices and quantities are exact decimals; times are nanoseconds since the epoch. "
                "Words such as sides and states may be in any letter case."
            ),
            "license": {"name": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(route: Route, path: str) -> dict[str, Any]:
    name = route.handler.__name__ + ("" if path.startswith(PREFIX) else "_unprefixed")
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _ref(route.body)}}},
        }
    if not route.public:
        operation["security"] = [{}, {"bearer": []}, {"header": []}]
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "description": text, "schema": schema}
        for name, (text, schema) in _IN_PATH.items()
        if f"{{{name}}}" in route.path
    ]
    if route.query is None:
        return found
    schema = msgspec.json.schema(route.query)["$defs"][route.query.__name__]
    for name, kind in schema["properties"].items():
        shape = {key: value for key, value in kind.items() if key != "default"}
        if "anyOf" in shape:
            (shape,) = [option for option in shape["anyOf"] if option.get("type") != "null"]
        if name in TIMES:
            shape["type"] = ["integer", "string"]
        found.append({"name": name, "in": "query", "required": False, "schema": shape})
    return found


def _responses(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {route.content_type: {"schema": {"type": "string"}}}
    if route.answer is not None:
        content = {"application/json": {"schema": {"$ref": _ref(route.answer)}}}
    elif route.content_type == "application/json":
        content = {"application/json": {"schema": {"type": "object"}}}
    responses: dict[str, Any] = {"200": {"description": "done", "content": content}}
    codes = route.codes + _EVERYWHERE + (() if route.public else _KEYED)
    by_status: dict[int, list[str]] = {}
    for code in codes:
        listed = by_status.setdefault(STATUS_OF_CODE[code], [])
        if code not in listed:
            listed.append(code)
    for status, names in sorted(by_status.items()):
        responses[str(status)] = {
            "description": ", ".join(names),
            "content": {"application/json": {"schema": {"$ref": _ref(ErrorAnswer)}}},
        }
        if status in (429, 503):
            responses[str(status)]["headers"] = {
                "Retry-After": {"description": "seconds", "schema": {"type": "string"}}
            }
    return responses


def _refine(schemas: dict[str, Any], symbols: list[str], default_symbol: str | None) -> None:
    """Say what the types cannot: which fields must be given, which words and symbols there are."""
    order = schemas["NewOrder"]
    order["required"] = ["user_id", "order_type", "side", "quantity"]
    if default_symbol is None:
        order["required"].append("symbol")
    for name, words in _WORDS.items():
        order["properties"][name]["examples"] = words
    order["properties"]["symbol"]["examples"] = symbols[:4]
    listed = schemas["OrderList"]
    listed["required"] = ["user_id", "list_type", "side", "quantity", *order["required"][4:]]
    shown = {"list_type": [*LIST_TYPES], "symbol": symbols[:4]} | _WORDS
    for name in listed["properties"].keys() & shown.keys():
        listed["properties"][name]["examples"] = shown[name]
    listed["additionalProperties"] = False
    order["x-order-types"] = {kind.name: _prices_of(kind) for kind in OrderType}
    order["additionalProperties"] = False
    schemas["Replacement"]["additionalProperties"] = False
    schemas["Batch"]["additionalProperties"] = False
    schemas["Batch"]["properties"]["orders"]["items"] = {
        "description": "a NewOrder; what is none fails by itself and leaves the others alone",
        "anyOf": [{"$ref": "#/components/schemas/NewOrder"}, {}],
    }


def _prices_of(kind: OrderType) -> dict[str, list[str]]:
    """Tell which prices an order of a type has and which it may not: for who makes a form of it."""
    has = {"price": kind not in UNPRICED, "stop_price": kind in CONDITIONAL}
    return {
        "required": [name for name, needed in has.items() if needed],
        "refused": [name for name, needed in has.items() if not needed],
    }


def _ref(kind: type[msgspec.Struct]) -> str:
    return _REF.format(name=kind.__name__)
