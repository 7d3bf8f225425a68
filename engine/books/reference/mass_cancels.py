"""The mass cancels that are under way in the reference book."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from engine.books.contract import Records
from engine.books.reference.levels import PriceLevels
from engine.books.reference.records import Command, Order
from ipc.records import COMMAND

_ORDERS_FIELDS = Command._fields[Command._fields.index("client_order_id") :]
_NONE_OF_AN_ORDER = dict.fromkeys(_ORDERS_FIELDS, 0)


@dataclass
class Sweep:
    """One of them."""

    command: Command
    last_order_id: int
    """Orders accepted later stay."""
    canceled_orders: int = 0
    begun: bool = False
    again: bool = False
    """Whether it has to go through the books once more."""

    def takes(self, order: Order) -> bool:
        """Tell whether it is to cancel an order, as far as symbols do not matter."""
        return order.account == self.command.account and order.order_id <= self.last_order_id


class Sweeps:
    """A queue; the first goes on, looking at ``cursor`` next: an order that rests, or None."""

    def __init__(self, books: Mapping[int, PriceLevels]) -> None:
        self.queue: list[Sweep] = []
        self.cursor: Order | None = None
        self._books = books

    def enqueue(self, command: Command, last_order_id: int) -> Sweep | None:
        """Put a mass cancel into the queue; return the one whose place it takes, if any."""
        sweep = Sweep(command, last_order_id)
        for place, other in enumerate(self.queue):
            if _key(other.command) == _key(command):
                sweep.begun = sweep.again = other.begun
                self.queue[place] = sweep
                return other
        self.queue.append(sweep)
        return None

    def begin(self) -> None:
        """Set the cursor to the first order that the first mass cancel has to look at."""
        self.queue[0].begun = True
        self.cursor = next(chain.from_iterable(book.orders() for book in self._scope()), None)

    def take(self, count: int) -> list[Order]:
        """Return the next orders to look at, at most so many, and set the cursor behind them."""
        if self.cursor is None:
            return []
        orders = list(islice(chain([self.cursor], self._behind(self.cursor)), count + 1))
        self.cursor = orders[count] if count < len(orders) else None
        return orders[:count]

    def leave(self, order: Order) -> None:
        """An order is about to leave its queue."""
        if order is self.cursor:
            self.cursor = next(self._behind(order), None)

    def doom(self, order: Order) -> bool:
        """Tell whether one of them is to cancel an order."""
        return any(_dooms(sweep, order) for sweep in self.queue)

    def trigger(self, order: Order) -> None:
        """An order leaves those that wait, for where the first of them may have been already."""
        self.leave(order)
        if self.queue and self.queue[0].begun and _dooms(self.queue[0], order):
            self.queue[0].again = True

    def records(self) -> Records:
        """Return them as ``Book.sweeps`` does."""
        rows = [
            sweep.command._replace(**_NONE_OF_AN_ORDER)._replace(
                order_id=sweep.last_order_id,
                price=int(sweep.again),
                quantity=sweep.canceled_orders,
                stop_price=int(sweep.begun),
            )
            for sweep in self.queue
        ]
        if self.cursor is not None:
            rows[0] = rows[0]._replace(client_order_id=self.cursor.order_id)
        return np.array(rows, COMMAND)

    def restore(self, records: Records, orders: Mapping[int, Order]) -> None:
        """Go on with what ``records`` of another book returned."""
        for command in map(Command._make, records.tolist()):
            begun, again = bool(command.stop_price), bool(command.price)
            self.queue.append(Sweep(command, command.order_id, command.quantity, begun, again))
        if self.queue:
            self.cursor = orders.get(self.queue[0].command.client_order_id)

    def _scope(self) -> list[PriceLevels]:
        symbol = self.queue[0].command.symbol
        return [self._books[symbol]] if symbol else list(self._books.values())

    def _behind(self, order: Order) -> Iterator[Order]:
        yield from self._books[order.symbol].orders_behind(order)
        for book in self._scope():
            if book.limits.symbol > order.symbol:
                yield from book.orders()


def _dooms(sweep: Sweep, order: Order) -> bool:
    return sweep.takes(order) and sweep.command.symbol in (0, order.symbol)


def _key(command: Command) -> tuple[int, int]:
    return command.account, command.symbol
