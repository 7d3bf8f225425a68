"""One HTTP request as the handlers see it."""

from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl

import msgspec

from frontend.http.errors import ApiError, broken_rule, of_validation
from frontend.http.models import Query, lowered
from ipc.decimals import is_whole

if TYPE_CHECKING:
    from frontend.http.api import Api  # which use this module
    from frontend.http.app import App
    from frontend.http.connection import Reply

Q = TypeVar("Q", bound=Query)
MAX_QUERY_FIELDS = 32
REMEMBERED_QUERIES = 1_024


class Request(msgspec.Struct):
    """``order_id`` is the one in the path; ``user_id`` the key's owner, None without keys.

    A handler that returns None sees to it that ``app.conclude`` is called with ``reply``, what
    makes the answer of a command's outcome, and the outcome.
    """

    api: "Api"
    query: bytes
    body: bytes
    user_id: str | None
    order_id: int = 0
    app: "App | None" = None
    reply: "Reply | None" = None

    def user(self, named: str | msgspec.UnsetType | None) -> str:
        """Return the user whose orders are meant. Raises ``ApiError``.

        With keys that is the key's owner, and nobody else may be named.
        """
        if self.user_id is not None:
            if named is None or named is msgspec.UNSET or named == self.user_id:
                return self.user_id
            raise ApiError("FORBIDDEN", "user_id: must be that of the key", field="user_id")
        if not isinstance(named, str):
            raise broken_rule("user_id", "must be given", "INVALID_REQUEST")
        return named


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
    if "numbers" in fields:
        fields["numbers"] = lowered(str(fields["numbers"]))
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise of_validation(error) from None
