"""What a query string asks for."""

from functools import cache, lru_cache
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec

from frontend.http.errors import ApiError, broken_rule, of_validation
from frontend.http.models import Query, lowered
from frontend.times import TIME_RULE, nanoseconds
from ipc.bounds import TEXT_RULE
from ipc.client_ids import is_client_text
from ipc.decimals import NumberError, is_whole, whole_number
from ipc.vocabulary import MAX_CLIENT_ID

Q = TypeVar("Q", bound=Query)
MAX_QUERY_FIELDS = 32
REMEMBERED_QUERIES = 1_024
TIMES = frozenset(("from", "to"))
"""Parameters that are times, in every query that has them."""


@cache
def _parameters(kind: type[Query]) -> frozenset[str]:
    return frozenset(kind.__struct_encode_fields__)


@cache
def _whole_numbers(kind: type[Query]) -> frozenset[str]:
    """Return the parameters of a query that are whole numbers."""
    properties = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"]
    return frozenset(
        name
        for name, shape in properties.items()
        if any(option.get("type") == "integer" for option in shape.get("anyOf", [shape]))
    )


@lru_cache(REMEMBERED_QUERIES)
def read_query(kind: type[Q], text: bytes) -> Q:
    """Return a query string as its type. Raises ``ApiError``."""
    try:
        pairs = parse_qsl(
            text.decode(),
            keep_blank_values=True,
            strict_parsing=bool(text),
            errors="strict",
            max_num_fields=MAX_QUERY_FIELDS,
        )
    except ValueError:
        raise ApiError("INVALID_REQUEST", "the query string must be name=value pairs") from None
    fields: dict[str, str | int] = dict(pairs)
    if len(fields) < len(pairs):
        raise ApiError("INVALID_REQUEST", "the query string must name each parameter once")
    for name in _whole_numbers(kind) & fields.keys():
        value = str(fields[name])
        if is_whole(value):
            fields[name] = int(value)
    for name in TIMES & fields.keys() & _parameters(kind):
        moment = nanoseconds(str(fields[name]))
        if moment is None:
            raise broken_rule(name, TIME_RULE)
        fields[name] = moment
    if "numbers" in fields:
        fields["numbers"] = lowered(str(fields["numbers"]))
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise of_validation(error) from None


def client_order_id(text: str) -> int | str:
    """Return the client_order_id that a path ends with: a number where it is all digits.

    Raises ``ApiError``.
    """
    if is_client_text(text.encode()):
        return text
    try:
        return whole_number(text, 1, MAX_CLIENT_ID)
    except NumberError as error:
        raise broken_rule("client_order_id", f"{error}; a text {TEXT_RULE}") from None


def limited(asked: int | None, default: int, most: int, field: str = "limit") -> int:
    """Return how many are wanted. Raises ``ApiError`` where that is more than is given."""
    if asked is None:
        return default
    if asked > most:
        raise broken_rule(field, f"must be at most {most}")
    return asked
