"""What every request handler of a worker uses: shared memory, instruments, users, order entry."""

import logging
import time
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from engine.plan import Plan
from frontend.gateway.keys import Keys
from frontend.http.errors import ApiError
from frontend.http.market import Markets
from frontend.http.meter import Meter
from frontend.http.names import AccountNames
from frontend.http.order_entry import OrderEntry
from frontend.http.request import Request
from frontend.http.searches import Searches
from ipc.memory.depth_board import BoardBusyError, BoardReader
from ipc.memory.order_table import OrderTableReader, TableBusyError
from ipc.memory.ring import RingReader
from ipc.memory.status import StatusReader, StatusWriter
from ipc.records import account_of, sequence_of, shard_of

if TYPE_CHECKING:
    from frontend.http.candles import Candles  # which use this module
    from frontend.http.feeds import Feeds
    from frontend.http.trade_reads import TradeReads

Records = npt.NDArray[np.void]

logger = logging.getLogger("shardbook.http")


class Api:
    """One worker's views of the product. Nothing here is written but the worker's own status."""

    entry: OrderEntry
    trade_reads: "TradeReads"
    candles: "Candles"
    feeds: "Feeds"
    searches: Searches
    openapi: bytes
    docs_page: bytes

    def __init__(self, plan: Plan, status: StatusWriter, version: str) -> None:
        self.plan = plan
        self.config = plan.config.http
        self.status = status
        self.version = version
        self.keys = Keys(plan.config.keys)
        self.meter = Meter(status)
        self.started = time.monotonic()
        self.markets = Markets(plan.known_instruments, self.config.default_symbol)
        self.names = AccountNames(plan.accounts_paths)
        self.page = StatusReader(plan.status_path)
        self.rings = [RingReader(plan.ring_path(shard)) for shard in plan.shards]
        self.tables = [OrderTableReader(plan.table_path(shard)) for shard in plan.shards]
        self.boards = [BoardReader(plan.board_path(shard)) for shard in plan.shards]

    def authenticate(self, headers: list[tuple[bytes, bytes]]) -> str | None:
        """Return the user of a request's key, None where no keys are configured.

        Raises ``ApiError``.
        """
        if not self.keys:
            return None
        found = None
        for name, value in headers:
            if name == b"x-api-key":
                key = value
            elif name == b"authorization" and value[:7].lower() == b"bearer ":
                key = value[7:].strip()
            else:
                continue
            if found is not None:
                raise ApiError("UNAUTHORIZED", "one API key must be sent, not several")
            found = key
        if found is None:
            raise ApiError("UNAUTHORIZED", "an API key must be sent")
        return self.user_of_key(found)

    def user_of_key(self, key: bytes) -> str:
        """Return the user of a key. Raises ``ApiError``."""
        user_id = self.keys.user_of(key)
        if user_id is None:
            raise ApiError("UNAUTHORIZED", "the API key must be one that is configured")
        return user_id

    def problem(self, error: Exception) -> ApiError:
        """Return what to say of an error; one that nobody foresaw is counted and logged."""
        if isinstance(error, ApiError):
            return error
        if isinstance(error, BoardBusyError | TableBusyError):
            return ApiError("BUSY", "what was to be read is being changed; try again")
        self.status.add("internal_errors", 1)
        logger.error("request failed", exc_info=error)
        return ApiError("INTERNAL", "the request failed for a reason of ours")

    def account(self, request: Request, named: str | None) -> int | None:
        """Return whose orders a request may see; None where everybody's. Raises ``ApiError``."""
        if named is None and request.user_id is None:
            return None
        return account_of(request.user(named))

    def order(self, order_id: int, account: int | None) -> np.void:
        """Return an order (ORDER), of ``account`` where one is given. Raises ``ApiError``."""
        shard = shard_of(order_id)
        found = self.tables[shard].get(order_id) if shard < len(self.tables) else None
        if found is None or (account is not None and found["account"] != account):
            raise ApiError(
                "ORDER_NOT_FOUND",
                f"order_id: no order {order_id} is known",
                field="order_id",
                rule="must be that of an order, live or ended not long ago",
            )
        return found

    def made_trades(self, first_trade_id: int, count: int) -> list[list[int]]:
        """Return the words of trades (TRADE) of one command, as many as the ring still has."""
        first = sequence_of(first_trade_id)
        return self.rings[shard_of(first_trade_id)].read_words(first - 1, count)
