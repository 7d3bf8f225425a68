"""One HTTP request as the handlers see it."""

from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from frontend.http.api import Api
from frontend.http.connection import Reply
from frontend.http.errors import ApiError, broken_rule
from ipc.records import account_of


class Concluder(Protocol):
    """Who answers a request later: see ``frontend.http.app``."""

    def conclude(self, reply: Reply, make: Callable[[Any], Any], found: Any) -> None:
        """Answer with what ``make`` makes of the outcome of a command."""
        ...


class Request(msgspec.Struct):
    """``order_id`` is the one in the path, ``name`` what a path that ends with a name ends with;
    ``user_id`` the key's owner, None without keys.

    A handler that returns None sees to it that ``app.conclude`` is called with ``reply``, what
    makes the answer of a command's outcome, and the outcome.
    """

    api: Api
    query: bytes
    body: bytes
    user_id: str | None
    order_id: int = 0
    app: Concluder | None = None
    reply: Reply | None = None
    name: str = ""

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

    def query_of_user(self) -> bytes:
        """Return the query string with the user whom the path names as its ``user_id``."""
        named = f"user_id={quote(self.name, safe='')}".encode()
        return b"&".join((named, self.query)) if self.query else named

    def account(self, named: str | None) -> int | None:
        """Return whose orders may be seen; None where everybody's. Raises ``ApiError``."""
        if named is None and self.user_id is None:
            return None
        return account_of(self.user(named))
