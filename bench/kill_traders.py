"""Clients under whose feet processes are killed, and all that they were told."""

import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from frontend.client import Client
from frontend.client.commands import Order
from frontend.client.errors import (
    ClientError,
    NotCarriedOutError,
    OrderRejectedError,
    UnknownOutcomeError,
)
from frontend.client.results import Execution
from ipc.arrays import Records
from ipc.bounds import TEXT_BIT
from ipc.client_ids import number_of
from ipc.records import account_of
from ipc.vocabulary import Reason, SelfTradePrevention

BATCH = 40
PATIENCE_S = 60.0
PAUSE_S = 0.01
"""Before what was rejected as SHARD_DOWN is sent again."""
_MODES = [mode.name for mode in SelfTradePrevention] + ["NONE"] * 5


class BrokenPromiseError(AssertionError):
    """What a client was told cannot be."""


def order_number(client_order_id: int | str) -> int:
    """Return the number of a trader's order."""
    return int(str(client_order_id).rpartition("/")[2])


class Trader(threading.Thread):
    """One account that trades until ``stop``, and sends again what was not carried out for sure.

    Each order has one client_order_id, however often it is sent; half of them are texts, which end
    in the order's number, and ``reports`` have that. Afterwards ``reports`` holds all that the
    account was told (REPORT), ``failure`` what went wrong.
    """

    def __init__(
        self,
        address: str,
        number: int,
        symbols: list[str],
        ids: Iterator[int],
        seed: int,
        last: threading.Barrier,
    ) -> None:
        super().__init__(name=f"trader {number}", daemon=True)
        self.user_id = f"trader-{number}"
        self.account = account_of(self.user_id)
        self.stop = threading.Event()
        self.logged_in = threading.Event()
        self.answers = 0
        self.unknown = 0
        self.not_carried_out = 0
        self.failure: BaseException | None = None
        self.reports: list[Records] = []
        self.duplicates: dict[int, int] = {}
        """By client_order_id, the order_id that the reject of a repetition named."""
        self._address = address
        self._symbols = symbols
        self._ids = ids
        self._dice = random.Random(f"{seed} {number}")
        self._last = last
        self._in_doubt: dict[int, bool] = {}
        self._numbers: dict[int, int] = {}
        """Of orders with a text, by what that is in arrays."""

    def run(self) -> None:
        """Trade; then be told everything."""
        try:
            with Client(
                self._address,
                self.user_id,
                timeout_s=PATIENCE_S,
                auto_reconnect=True,
                include_answers=True,
            ) as client:
                self.logged_in.set()
                self._trade(client)
                self._last.wait(PATIENCE_S)
                self._catch_up(client)
        except BaseException as failure:
            self.failure = failure

    def _trade(self, client: Client) -> None:
        again: list[Order] = []
        while again or not self.stop.is_set():
            orders = again
            if not self.stop.is_set():
                orders = [*again, *itertools.islice(self._orders(), BATCH)]
            again = self._send(client, orders)
            if self._dice.random() < 0.2:
                with suppress(UnknownOutcomeError, NotCarriedOutError, OrderRejectedError):
                    client.cancel_all(self._dice.choice(self._symbols))
            self._take(client, PAUSE_S if again else 0)

    def _catch_up(self, client: Client) -> None:
        """See an order answered on every symbol: all that came before it has come then."""
        orders = [
            Order(symbol, "buy", 1, "0.01", client_order_id=next(self._ids))
            for symbol in self._symbols
        ]
        while orders:
            orders = self._send(client, orders)
            self._take(client, 0)

    def _orders(self) -> Iterator[Order]:
        dice = self._dice
        while True:
            number = next(self._ids)
            text = f"{self.user_id}/{number}"
            self._numbers[number_of(text)] = number
            time_in_force = dice.choice(("gtc", "gtc", "day", "ioc"))
            to_limit = time_in_force == "gtc" and dice.random() < 0.1
            at_least = time_in_force == "ioc" and dice.random() < 0.5
            yield Order(
                dice.choice(self._symbols),
                dice.choice(("buy", "sell")),
                dice.randint(3, 9),
                None if to_limit else f"1.{dice.randint(0, 9):02}",
                order_type="market_to_limit" if to_limit else "limit",
                time_in_force=time_in_force,
                client_order_id=text if dice.random() < 0.5 else number,
                self_trade_prevention=dice.choice(_MODES),
                minimum_quantity=3 if at_least else None,
            )

    def _send(self, client: Client, orders: list[Order]) -> list[Order]:
        """Send orders; return those to be sent again."""
        again = []
        for order, result in zip(orders, client.submit_batch(orders), strict=True):
            self.answers += 1
            number = order_number(order.client_order_id)
            if self._is_open(number, result):
                again.append(order)
        return again

    def _is_open(self, number: int, result: Execution | ClientError) -> bool:
        """Take the outcome of an order; return whether it has to be sent again."""
        if isinstance(result, UnknownOutcomeError):
            self.unknown += 1
            self._in_doubt[number] = True
            return True
        if isinstance(result, NotCarriedOutError):
            self.not_carried_out += 1
            return True
        if isinstance(result, OrderRejectedError):
            if result.code == Reason.SHARD_DOWN:
                return True
            if result.code == Reason.DUPLICATE_CLIENT_ORDER_ID and number in self._in_doubt:
                self.duplicates[number] = result.order_id
                return False
        if not isinstance(result, Execution):
            raise BrokenPromiseError(f"{self.user_id}, order {number}: {result!r}") from result
        return False

    def _take(self, client: Client, timeout_s: float) -> None:
        reports = client.receive_array(timeout_s)
        if len(reports):
            reports["account"] = self.account
            named = np.flatnonzero(reports["client_order_id"] >= np.uint64(TEXT_BIT))
            ids = reports["client_order_id"][named].tolist()
            reports["client_order_id"][named] = [self._numbers[number] for number in ids]
            self.reports.append(reports)
