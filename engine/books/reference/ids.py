"""The reference book's memory of client_order_ids: the rules of ``engine.books.id_memory``."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from struct import Struct

import numpy as np

from engine.books.contract import KeptIds, Records
from engine.books.id_memory import IdShares, block_of, forgotten_before
from engine.books.reference.records import Order, Row
from ipc.records import RECENT, sequence_of

_ID_KEY = Struct("<QQQ")


class IdMemory:
    """The client_order_ids of live orders, of recent ones, and those kept for their accounts."""

    def __init__(
        self, recent_orders: int, shares: IdShares, live: Mapping[int, Order], last: int
    ) -> None:
        """``live``: the live orders by order_id, as they are from now on; ``last``: the last order
        sequence given."""
        self._recent_orders = recent_orders
        self._block = block_of(recent_orders)
        self._shares = shares.checked(recent_orders)
        self._live = live
        self._forgotten = forgotten_before(last, recent_orders)
        self._order_ids: dict[bytes, int] = {}  # by ``_id_key``
        self._recent: deque[Row] = deque()  # RECENT, oldest first
        self._recent_of: Counter[int] = Counter()  # how many of these each account has
        self._kept: dict[int, Row] = {}  # by order_id, oldest first
        self._kept_of: dict[int, deque[Row]] = {}
        self._displaced = 0

    def order_id(self, account: int, symbol: int, client_order_id: int) -> int:
        """Return the order_id remembered for a client_order_id, or 0."""
        return self._order_ids.get(_id_key(account, symbol, client_order_id), 0)

    def remember(self, order: Order) -> None:
        """Take an order in that is accepted, and live."""
        sequence = sequence_of(order.order_id)
        if (sequence - 1) % self._block == 0:
            self._begin_block(sequence)
        if order.client_order_id:
            row = (order.order_id, order.account, order.client_order_id, order.symbol)
            self._order_ids[_key_of(row)] = order.order_id
            if self._recent_orders:
                self._recent.append(row)
                self._recent_of[order.account] += 1

    def end(self, order: Order) -> None:
        """An order is not live any more."""
        if order.client_order_id:
            row = (order.order_id, order.account, order.client_order_id, order.symbol)
            self._let_go(row)

    def _begin_block(self, sequence: int) -> None:
        """Forget a block of orders, for one begins with the order of this sequence."""
        whole = [row[1] for row in self._recent if sequence_of(row[0]) >= sequence - self._block]
        for account in set(whole):
            kept = self._kept_of.get(account, ())
            while kept and len(kept) + self._recent_of[account] > self._shares.account_ids:
                self._drop(kept[0])
        self._forgotten = forgotten_before(sequence, self._recent_orders)
        while self._recent and sequence_of(self._recent[0][0]) <= self._forgotten:
            row = self._recent.popleft()
            account = row[1]
            self._recent_of[account] -= 1
            if self._recent_of[account] < self._shares.account_ids:
                self._keep(row)
            if not self._recent_of[account]:
                del self._recent_of[account]
            self._let_go(row)

    def _keep(self, row: Row) -> None:
        if len(self._kept) == self._shares.kept_ids:
            self._drop(next(iter(self._kept.values())))
            self._displaced += 1
        self._kept[row[0]] = row
        self._kept_of.setdefault(row[1], deque()).append(row)

    def _drop(self, row: Row) -> None:
        """Let the oldest kept id of an account go."""
        del self._kept[row[0]]
        kept = self._kept_of[row[1]]
        kept.popleft()
        if not kept:
            del self._kept_of[row[1]]
        self._let_go(row)

    def _let_go(self, row: Row) -> None:
        """Forget an id, unless there is still a reason to know it."""
        recent = sequence_of(row[0]) > self._forgotten
        if not recent and row[0] not in self._live and row[0] not in self._kept:
            del self._order_ids[_key_of(row)]

    def rows(self) -> Records:
        """Return the ids of kept and recent orders (RECENT), the oldest order's first."""
        return np.array([*self._kept.values(), *self._recent], dtype=RECENT)

    def counts(self) -> KeptIds:
        """Return how many are kept beyond the recent orders, and how many were displaced."""
        return KeptIds(len(self._kept), self._displaced)

    def restore(self, last: int, rows: Records, resting: Iterable[Order]) -> None:
        """Take over what ``rows`` of another gave after order sequence ``last``."""
        self._forgotten = forgotten_before(last, self._recent_orders)
        for row in rows.tolist():
            self._order_ids[_key_of(row)] = row[0]
            if sequence_of(row[0]) <= self._forgotten:
                self._keep(row)
            else:
                self._recent.append(row)
                self._recent_of[row[1]] += 1
        for order in resting:
            if order.client_order_id:
                key = _id_key(order.account, order.symbol, order.client_order_id)
                self._order_ids[key] = order.order_id

    def check(self, last: int) -> None:
        """Verify what must hold after order sequence ``last``; raise AssertionError else."""
        assert self._forgotten == forgotten_before(last, self._recent_orders), "forgotten: not so"
        order_ids = [row[0] for row in (*self._kept.values(), *self._recent)]
        assert order_ids == sorted(set(order_ids)), "remembered ids: not oldest first"
        recent = [row for row in self._recent if sequence_of(row[0]) > self._forgotten]
        assert len(recent) == len(self._recent), "recent orders: too old"
        assert self._recent_of == Counter(row[1] for row in self._recent), "recent_of: not so"
        assert len(self._kept) <= self._shares.kept_ids, "kept ids: too many"
        of_account: dict[int, deque[Row]] = {}
        for row in self._kept.values():
            of_account.setdefault(row[1], deque()).append(row)
        assert of_account == self._kept_of, "kept_of: not what is kept"
        most = max(map(len, of_account.values()), default=0)
        assert most <= self._shares.account_ids, "kept ids: too many of an account"
        known = {_key_of(row): row[0] for row in (*self._kept.values(), *self._recent)}
        for order in self._live.values():
            if order.client_order_id:
                key = _id_key(order.account, order.symbol, order.client_order_id)
                known[key] = order.order_id
        assert known == self._order_ids, "client_order_ids: not those that are remembered"


def _id_key(account: int, symbol: int, client_order_id: int) -> bytes:
    """Return what a client_order_id is found by: numbers as bytes, whose hash nobody can aim at."""
    return _ID_KEY.pack(account, symbol, client_order_id)


def _key_of(row: Row) -> bytes:
    _, account, client_order_id, symbol = row
    return _id_key(account, symbol, client_order_id)
