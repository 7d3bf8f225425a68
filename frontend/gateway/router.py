"""Where a message goes: commands to the matcher of their symbol, queries to a query worker."""

from collections.abc import Mapping, Sequence

from frontend.gateway.frame_sorter import SymbolSorter
from frontend.gateway.matcher_links import BackendLink
from ipc.records import shard_of
from ipc.wire.messages import MAX_COMMAND_BODY


class Router:
    """The table of routes: symbol number to matcher, session to query worker."""

    def __init__(
        self,
        shard_of_symbol: dict[int, int],
        matchers: Mapping[int, BackendLink],
        workers: Sequence[BackendLink],
    ) -> None:
        self.matchers = matchers
        """By shard."""
        self.workers = workers
        self._links = list(matchers.values())
        place_of = {shard: place for place, shard in enumerate(matchers)}
        places = {symbol: place_of[shard] for symbol, shard in shard_of_symbol.items()}
        self.sorter = SymbolSorter(places, len(matchers), MAX_COMMAND_BODY)
        self._by_symbol = {symbol: matchers[shard] for symbol, shard in shard_of_symbol.items()}

    def link(self, number: int, session: int) -> BackendLink:
        """Return what the sorter's link number means for a session."""
        return self._links[number] if number < len(self._links) else self.worker(session)

    def by_symbol(self, symbol: int) -> BackendLink | None:
        """Return the link of the matcher that holds a symbol."""
        return self._by_symbol.get(symbol)

    def by_order(self, order_id: int) -> BackendLink | None:
        """Return the link of the matcher that gave an order its id."""
        return self.matchers.get(shard_of(order_id))

    def worker(self, session: int) -> BackendLink:
        """Return the link of the query worker that serves a session."""
        return self.workers[session % len(self.workers)]

    def all(self) -> list[BackendLink]:
        """Return every link."""
        return [*self._links, *self.workers]
