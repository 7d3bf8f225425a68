"""What a worker counts of its own work, in its slot of the status page: any worker reports all."""

from bisect import bisect_left

from ipc.status import ORDER_LATENCY_US, StatusWriter

_BUCKETS = [*(f"order_under_us_{bound}" for bound in ORDER_LATENCY_US), "order_over"]
_BOUNDS_NS = [bound * 1_000 for bound in ORDER_LATENCY_US]


class Meter:
    """Counts requests, and orders with the time from the request to the answer."""

    def __init__(self, status: StatusWriter) -> None:
        self._status = status

    def order(self, took_ns: int) -> None:
        """Count one order."""
        self.orders(1, took_ns)

    def orders(self, count: int, took_ns: int) -> None:
        """Count orders that were answered together."""
        add = self._status.add
        add("orders", count)
        add("order_seconds_ns", count * took_ns)
        add(_BUCKETS[bisect_left(_BOUNDS_NS, took_ns)], count)

    def answered(self, status: int) -> None:
        """Count a request by its answer."""
        self._status.add("requests", 1)
        if status >= 400:
            self._status.add("errors_server" if status >= 500 else "errors_client", 1)
