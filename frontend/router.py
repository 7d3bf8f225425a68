"""Where a frame goes: commands to the matcher of their symbol, queries to a query worker.

The route is read from the first bytes of a message: ``[tag, symbol, ...]`` with the tag and the
symbol as MessagePack integers. Only what is not plain there is decoded.
"""

from collections.abc import Sequence

from frontend.backends import BackendLink
from ipc.messages import COMMAND_TAGS, QUERY_TAGS
from ipc.records import shard_of

_FIXARRAY, _FIXARRAY_MASK = 0x90, 0xF0
_UINT8, _UINT16 = 0xCC, 0xCD


def peek(body: memoryview | bytes | bytearray, position: int, end: int) -> tuple[int, int]:
    """Return ``(tag, symbol)`` of the message in ``body[position:end]``, (0, 0) if not plain."""
    if end - position < 3 or body[position] & _FIXARRAY_MASK != _FIXARRAY:
        return 0, 0
    tag, lead = body[position + 1], body[position + 2]
    if lead < 0x80:
        return tag, lead
    if lead == _UINT8 and end - position >= 4:
        return tag, body[position + 3]
    if lead == _UINT16 and end - position >= 5:
        return tag, body[position + 3] << 8 | body[position + 4]
    return 0, 0


class Router:
    """The table of routes: symbol number to matcher, connection to query worker."""

    def __init__(
        self,
        shard_of_symbol: dict[int, int],
        matchers: Sequence[BackendLink],
        workers: Sequence[BackendLink],
    ) -> None:
        self.matchers = matchers
        self.workers = workers
        self._by_symbol = {symbol: matchers[shard] for symbol, shard in shard_of_symbol.items()}

    def plain(self, tag: int, symbol: int, session: int) -> BackendLink | None:
        """Return the link of a message whose symbol decides alone; None where it does not."""
        if tag in COMMAND_TAGS:
            return self._by_symbol.get(symbol)
        if tag in QUERY_TAGS:
            return self.workers[session % len(self.workers)]
        return None

    def by_order(self, order_id: int) -> BackendLink | None:
        """Return the link of the matcher that gave an order its id."""
        shard = shard_of(order_id)
        return self.matchers[shard] if order_id and shard < len(self.matchers) else None

    def all(self) -> list[BackendLink]:
        """Return every link."""
        return [*self.matchers, *self.workers]
