"""Starts of the product that a signal ends, at a random moment from the first instant on.

    python -m bench.stops --rounds 100 [--seed N]

Every round starts ``shardbook serve`` in a session of its own, every third with nothing compiled
yet, and sends a signal to the process alone or to its whole group: while it imports, compiles,
recovers, serves a client that trades, or drains. Then it looks whether exit code, output,
processes, shared memory and log are as they should be.
Exit code 1 where one is not.
"""

import signal
import threading
from collections import Counter
from dataclasses import dataclass, field

from engine.children import ENDING
from frontend.client import Client
from frontend.commands import Order
from frontend.errors import ClientError
from frontend.results import Execution

CONFIG = """
[engine]
matchers = 2
pin = false
[http]
address = ""
[[instruments]]
symbol = "AA"
tick_size = "0.01"
[[instruments]]
symbol = "BB"
tick_size = "0.01"
"""
SIGNALS = (*ENDING[:4], *ENDING[:4], *ENDING[4:], signal.SIGKILL)
"""Those that people and service managers send, twice as often."""
COLD_EVERY = 3
COLD_S = 8.0
"""Where everything has to be compiled, the signal comes within this time."""
SERVING_S = 1.5
"""So much longer than a start takes is the latest moment otherwise."""
PATIENCE_S = 90.0
POLL_S = 0.005
MARK = "SHARDBOOK_STOPS"
"""Environment variable that every process of a round has, and no other."""


@dataclass
class Outcome:
    """What the rounds were, and everything that was wrong."""

    rounds: int = 0
    signals: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    trades: int = 0
    wrong: list[str] = field(default_factory=list)


class Trader(threading.Thread):
    """A client that trades with itself as soon as it can, until the product ends."""

    def __init__(self, address: str) -> None:
        super().__init__(name="trader", daemon=True)
        self.enough = threading.Event()
        self.trade_ids: list[int] = []
        """Of all trades that it was told."""
        self._address = address

    def run(self) -> None:
        """Log in when there is somebody, and trade."""
        while not self.enough.is_set():
            try:
                with Client(self._address, "trader", timeout_s=PATIENCE_S) as client:
                    while not self.enough.is_set():
                        self._trade(client)
            except (ClientError, OSError):
                self.enough.wait(POLL_S)

    def _trade(self, client: Client) -> None:
        for symbol in ("AA", "BB"):
            orders = [Order(symbol, "sell", 3, "1.00"), Order(symbol, "buy", 3, "1.00")]
            for result in client.submit_batch(orders):
                if not isinstance(result, Execution):
                    raise result
        for report in client.reports(timeout_s=0):
            if isinstance(report, Execution) and report.trade_id:
                self.trade_ids.append(report.trade_id)
