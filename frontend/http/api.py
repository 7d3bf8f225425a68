"""What every request handler of a worker uses, made of parts that know nothing of it."""

import logging
import time

from engine.plan import Plan
from frontend.gateway.keys import Keys
from frontend.gateway.turns import Turns
from frontend.http.candles import Candles
from frontend.http.connection import TURN_S
from frontend.http.errors import ApiError
from frontend.http.feeds import Feeds
from frontend.http.history_reads import HistoryReads
from frontend.http.meter import Meter
from frontend.http.order_entry import OrderEntry
from frontend.http.product_state import ProductState
from frontend.http.searches import Searches
from frontend.http.trade_reads import TradeReads
from ipc.memory.depth_board import BoardBusyError
from ipc.memory.order_table_reader import TableBusyError
from ipc.memory.status import StatusWriter

logger = logging.getLogger("shardbook.http")


class Api:
    """One worker's parts. Nothing here is written but the worker's own status."""

    def __init__(
        self,
        plan: Plan,
        status: StatusWriter,
        version: str,
        state: ProductState,
        entry: OrderEntry,
        openapi: bytes,
        docs_page: bytes,
    ) -> None:
        config = plan.config.http
        self.config = config
        self.status = status
        self.version = version
        self.started = time.monotonic()
        self.keys = Keys(plan.config.keys)
        self.meter = Meter(status)
        self.state = state
        self.entry = entry
        self.openapi = openapi
        self.docs_page = docs_page
        self.turns = Turns(TURN_S)
        """Of all connections, in seconds of work."""
        self.searches = Searches(config.answer_timeout_s)
        self.history = HistoryReads(plan, state.texts)
        self.trade_reads = TradeReads(state, self.searches, self.history, plan.log_dir, config)
        self.candles = Candles(state, self.history, plan.log_dir, config.answer_timeout_s)
        self.feeds = Feeds(state, self.trade_reads.last)

    async def close(self) -> None:
        """End, once the matchers have answered what they have."""
        await self.entry.close()
        self.trade_reads.close()
        self.candles.close()
        self.history.close()

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
