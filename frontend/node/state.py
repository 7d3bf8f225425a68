"""What a node sees of the product: pictures of its shards, and orders as requests need them.

Handlers read it as they read shared memory. Books and trades are always here; orders are fetched
from Redis for a request, and held here while it is answered.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engine.cache.link import CacheError, judged
from engine.cache.names import Names, ShardNames
from engine.plan import Plan
from frontend.http.errors import ApiError
from frontend.http.market import Markets
from frontend.http.product_state import ProductState
from frontend.node.orders import Reading
from frontend.node.picture import Picture
from ipc.arrays import Records, those
from ipc.client_ids import RememberedTexts
from ipc.memory.status import StatusReader
from ipc.records import ORDER, SEQUENCE_MASK, account_of, make_id, shard_of
from ipc.wire.messages import Trade

MAX_REMEMBERED_NAMES = 65_536
MOST_ORDERS = 4_096
"""Orders of a shard that are fetched for one request."""
MOST_OF_ALL = 1_000
"""Where no user is named."""
_NOTHING = np.zeros(0, ORDER)
REACH_S = 1.0
"""How long a read waits for what it is to stand for."""
BEHIND = "what is to be read is not here yet; try again"
AWAY = "what is to be read is away; try again"


class HeldOrders:
    """What requests have fetched of a shard's orders, where handlers look for an order table."""

    capacity = MOST_ORDERS

    def text_of(self, order_id: int, client_order_id: int) -> str | None:
        """Know no text: ``NodeState.texts`` has those of orders that were fetched."""
        return None

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._orders: dict[int, np.void] = {}
        self._accounts: dict[int | None, Records] = {}

    @property
    def completed(self) -> int:
        """The last command of the shard all of whose effects are shown."""
        return self._picture.position

    @contextmanager
    def holding(self, found: Records, account: int | None, *, all_of: bool) -> Iterator[None]:
        """Show orders for a while: by their ids, and as all that an account has."""
        for order in found:
            self._orders[int(order["order_id"])] = order
        if all_of:
            self._accounts[account] = found
        try:
            yield
        finally:
            for order in found:
                self._orders.pop(int(order["order_id"]), None)
            if all_of and self._accounts.get(account) is found:
                del self._accounts[account]

    def get(self, order_id: int) -> np.void | None:
        """Return an order (ORDER), None where it was not fetched."""
        return self._orders.get(order_id)

    def search(
        self,
        account: int | None,
        symbol: int = 0,
        side: int = 0,
        ord_status: int | None = None,
        limit: int = 100,
        client_order_id: int = 0,
        below: int = 1 << 64,
    ) -> Generator[None, None, Records]:
        """Return what was fetched of an account's orders (ORDER), newest first."""
        orders = self._accounts.get(account, _NOTHING)
        wanted = orders["order_id"] < below
        for name, value in (
            ("symbol", symbol),
            ("side", side),
            ("client_order_id", client_order_id),
        ):
            if value:
                wanted &= orders[name] == value
        if ord_status is not None:
            wanted &= orders["ord_status"] == ord_status
        found = those(orders, wanted)
        newest = found[np.argsort(found["order_id"])[::-1]][:limit]
        yield
        return newest


class NodeNames:
    """Users of accounts, as far as they were looked up."""

    def __init__(self, client: Any, names: Names) -> None:
        self._client, self._names = client, names
        self._known: dict[int, str] = {}

    def text(self, account: int) -> str:
        """Return the user_id of an account, "" where none is known."""
        return self._known.get(account, "")

    def learn(self, user_id: str) -> None:
        """Take a user who is here."""
        if len(self._known) >= MAX_REMEMBERED_NAMES:
            self._known.clear()
        self._known[account_of(user_id)] = user_id

    async def look_up(self, accounts: Iterable[int]) -> None:
        """Look up those that are not known."""
        missing = sorted({account for account in accounts if account not in self._known})
        if missing:
            found = await self._client.hmget(self._names.accounts, [str(a) for a in missing])
            for user_id in found:
                if user_id is not None:
                    self.learn(user_id.decode())


class NodeState(ProductState):
    """A node's readers. ``lost`` is called whenever a shard's picture begins to be none."""

    def __init__(
        self, plan: Plan, client: Any, where: str, directory: Path, lost: Callable[[], None]
    ) -> None:
        settings = plan.config.redis
        self.texts = RememberedTexts()
        self._client, self._where, self._cache = client, where, Names(settings.prefix)
        self.instruments = plan.known_instruments
        self.shards = plan.shards
        self.markets = Markets(plan.known_instruments, plan.config.http.default_symbol)
        self.node_names = NodeNames(client, self._cache)
        self.names = self.node_names  # type: ignore[assignment]
        self.page = StatusReader(plan.status_path)
        self.pictures = {
            shard: Picture(
                client,
                where,
                self._cache.of(shard),
                [i for i in plan.known_instruments if i.shard == shard],
                directory,
                settings.depth_levels,
                lost,
            )
            for shard in plan.shards
        }
        self.rings = {shard: picture.ring for shard, picture in self.pictures.items()}
        self.boards = {shard: picture.board for shard, picture in self.pictures.items()}
        self.held = {shard: HeldOrders(picture) for shard, picture in self.pictures.items()}
        self.tables = self.held  # type: ignore[assignment]
        self._reading = Reading({i.number: i for i in plan.known_instruments}, self.texts)
        self.made: dict[int, list[Trade]] = {}
        """Of order entry: trades of commands that are being answered."""

    def check(self) -> None:
        """Raise ``ApiError`` where a shard cannot be read now."""
        for picture in self.pictures.values():
            if picture.away is not None:
                raise ApiError("BUSY", AWAY)

    async def reach(self, wanted: Mapping[int, int]) -> None:
        """Wait until the pictures stand for commands, by shard. Raises ``ApiError``."""
        for shard, sequence in wanted.items():
            picture = self.pictures.get(shard)
            if picture is not None and not await picture.reach(sequence, REACH_S):
                raise ApiError("BUSY", BEHIND)

    def made_trades(self, first_trade_id: int, count: int) -> list[list[int]]:
        """Return the words of trades (TRADE) of one command, as far as they are known."""
        found = self.made.get(first_trade_id, [])
        rows = super().made_trades(first_trade_id, count) if len(found) < count else []
        if len(rows) > len(found):
            return rows
        return [
            [t.trade_id, 0, t.timestamp_ns, t.price, t.quantity, t.buy_order_id, t.sell_order_id, 0]
            for t in found
        ]

    async def fetch(self, order_ids: Iterable[int]) -> Records:
        """Return orders (ORDER), those that Redis has. Raises ``ApiError``."""
        keys = [self._key(order_id) for order_id in order_ids]
        try:
            with judged(self._where):
                async with self._client.pipeline(transaction=False) as pipe:
                    for key in keys:
                        pipe.hgetall(key)
                    found = self._reading.orders(await pipe.execute() if keys else [])
                await self.node_names.look_up(found["account"].tolist())
        except CacheError:
            raise ApiError("BUSY", AWAY) from None
        return found

    async def fetch_of(self, shard: int, account: int | None, below: int) -> Records:
        """Return an account's orders (ORDER) of a shard, open ones and the newest, below an id;
        with None the newest of all. Raises ``ApiError``."""
        names = self._cache.of(shard)
        try:
            with judged(self._where):
                ids = await self._ids_of(names, account, below)
        except CacheError:
            raise ApiError("BUSY", AWAY) from None
        return await self.fetch(ids)

    async def _ids_of(self, names: ShardNames, account: int | None, below: int) -> list[int]:
        if account is None:
            last = int(await self._client.hget(names.position, "orders") or 0)
            highest = min(last, (below - 1) - make_id(names.shard, 0), SEQUENCE_MASK)
            lowest = max(0, highest - MOST_OF_ALL)
            return [make_id(names.shard, n) for n in range(highest, lowest, -1)]
        found: dict[int, None] = {}
        async with self._client.pipeline(transaction=False) as pipe:
            for key in (names.open_orders(account), names.user_orders(account)):
                pipe.zrange(key, f"({below}", 0, desc=True, byscore=True, offset=0, num=MOST_ORDERS)
            for ids in await pipe.execute():
                found |= dict.fromkeys(map(int, ids))
        return list(found)

    def _key(self, order_id: int) -> str:
        return f"{self._cache.of(shard_of(order_id)).order}{order_id}"


def tokens(text: str, shards: Mapping[int, Any]) -> dict[int, int]:
    """Return the commands that a header names by shard: ``0=17,1=4``. Raises ``ValueError``."""
    found = {}
    for part in filter(None, text.split(",")):
        shard, _, sequence = part.strip().partition("=")
        if int(shard) in shards:
            found[int(shard)] = int(sequence)
    return found
