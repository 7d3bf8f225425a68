"""What a worker sees of the product: its instruments, its users' names, and its shared memory."""

import numpy as np

from engine.plan import Plan
from frontend.gateway.account_names import AccountNames
from frontend.http.errors import ApiError
from frontend.http.market import Market, Markets
from frontend.http.searches import Work
from ipc.arrays import Records
from ipc.client_ids import RememberedTexts, as_number, is_text
from ipc.memory.depth_board import BoardReader
from ipc.memory.order_table_reader import OrderTableReader
from ipc.memory.ring import RingReader
from ipc.memory.status import StatusReader
from ipc.records import account_of, sequence_of, shard_of


class ProductState:
    """One worker's readers. Nothing here is written."""

    def __init__(self, plan: Plan) -> None:
        self.instruments = plan.known_instruments
        """Those that are retired too."""
        self.shards = plan.shards
        self.markets = Markets(plan.known_instruments, plan.config.http.default_symbol)
        self.names = AccountNames(plan.accounts_paths)
        self.texts = RememberedTexts()
        """Of orders that no order table has any more."""
        self.page = StatusReader(plan.status_path)
        self.rings = {shard: RingReader(plan.ring_path(shard)) for shard in plan.shards}
        self.tables = {shard: OrderTableReader(plan.table_path(shard)) for shard in plan.shards}
        self.boards = {shard: BoardReader(plan.board_path(shard)) for shard in plan.shards}

    def order(self, order_id: int, account: int | None) -> np.void:
        """Return an order (ORDER), of ``account`` where one is given. Raises ``ApiError``."""
        shard = shard_of(order_id)
        found = self.tables[shard].get(order_id) if shard in self.tables else None
        if found is None or (account is not None and found["account"] != account):
            raise ApiError(
                "ORDER_NOT_FOUND",
                f"order_id: no order {order_id} is known",
                field="order_id",
                rule="must be that of an order, live or ended not long ago",
            )
        return found

    def client_order_id(self, order: np.void) -> int | str:
        """Return an order's (ORDER) client_order_id as it was given; 0: none is known."""
        order_id, number = int(order["order_id"]), int(order["client_order_id"])
        if not is_text(number):
            return number
        table = self.tables.get(shard_of(order_id))
        text = None if table is None else table.text_of(order_id, number)
        return text if text is not None else self.texts.get(number, 0)

    def search_client_order(
        self, user_id: str, market: Market, client_order_id: int | str
    ) -> Work[np.void]:
        """Find the newest order (ORDER) of a user under a client_order_id, in pieces of a search.

        Raises ``ApiError``.
        """
        account = account_of(user_id)
        found = yield from self.tables[market.shard].search(
            account, market.number, limit=1, client_order_id=as_number(client_order_id)
        )
        if not len(found):
            raise ApiError(
                "ORDER_NOT_FOUND",
                f"client_order_id: no order {client_order_id} of the user is known",
                field="client_order_id",
                rule="must be that of an order of the user and symbol, live or ended not long ago",
            )
        order: np.void = found[0]
        return order

    def made_trades(self, first_trade_id: int, count: int) -> list[list[int]]:
        """Return the words of trades (TRADE) of one command, as many as the ring still has."""
        first = sequence_of(first_trade_id)
        return self.rings[shard_of(first_trade_id)].read_words(first - 1, count)


def newest_first(records: Records, time: str) -> Records:
    """Return records of several shards by a time, the latest first.

    Each shard's come newest first, and those of one time, of one command, stay in that order.
    """
    ordered: Records = records[np.argsort(-records[time].astype(np.int64), kind="stable")]
    return ordered
