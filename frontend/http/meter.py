"""What a worker counts of its own work, in its slot of the status page: any worker reports all."""

from bisect import bisect_left

from frontend.roles import HTTP, ORDER_LATENCY_US
from ipc.memory.status import StatusWriter, counter_place

_BUCKETS = [
    counter_place(HTTP, name)
    for name in (*(f"order_under_us_{bound}" for bound in ORDER_LATENCY_US), "order_over")
]
_REQUESTS, _ORDERS, _SECONDS, _BAD, _OURS = (
    counter_place(HTTP, name)
    for name in ("requests", "orders", "order_seconds_ns", "errors_client", "errors_server")
)
_BOUNDS_NS = [bound * 1_000 for bound in ORDER_LATENCY_US]


class Meter:
    """Counts requests, and orders with the time from the request to the answer."""

    def __init__(self, status: StatusWriter) -> None:
        self._words = status.words

    def orders(self, count: int, took_ns: int) -> None:
        """Count orders that were answered together."""
        words = self._words
        words[_ORDERS] += count
        words[_SECONDS] += count * took_ns
        words[_BUCKETS[bisect_left(_BOUNDS_NS, took_ns)]] += count

    def answered(self, status: int) -> None:
        """Count a request by its answer."""
        self._words[_REQUESTS] += 1
        if status >= 400:
            self._words[_OURS if status >= 500 else _BAD] += 1
