"""Other order books on PyPI that run here, report their fills and keep price-time priority.

A peer is driven the way its documentation shows, one message at a time, as none takes a batch. Its
fills must be those of the judge before its time counts. Where it has no immediate-or-cancel order,
what is left of one is cancelled; where it has no replace that goes to the back, a modify is a
cancel and a new order.
"""

import importlib
import importlib.metadata
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

NEW, CANCEL, MODIFY = range(3)
BUY, SELL = range(2)


class Message(NamedTuple):
    """One message of the judge, as plain integers."""

    kind: int
    order: int
    side: int
    ioc: int
    price: int
    quantity: int


class Fill(NamedTuple):
    """One trade, in the judge's ids."""

    taker: int
    maker: int
    price: int
    quantity: int


class Peer(ABC):
    """One book of a peer; ``fills`` collects what it reports."""

    package: str

    def __init__(self) -> None:
        self.fills: list[Fill] = []

    @abstractmethod
    def new(self, order: int, side: int, ioc: int, price: int, quantity: int) -> None:
        """Enter a limit order."""

    @abstractmethod
    def cancel(self, order: int) -> bool:
        """Cancel a resting order; return whether it rested."""

    def play(self, messages: Iterable[Message]) -> None:
        """Carry messages out one by one."""
        new, cancel = self.new, self.cancel
        for kind, order, side, ioc, price, quantity in messages:
            if kind == NEW or (cancel(order) and kind == MODIFY):
                new(order, side, ioc, price, quantity)


class OrderlyChaos(Peer):
    """C++ called through ctypes."""

    package = "orderly-chaos"

    def __init__(self) -> None:
        super().__init__()
        module = importlib.import_module("orderly_chaos")
        self._sides = (module.Side.BUY, module.Side.SELL)
        self._unknown: type[Exception] = module.UnknownOrderIdError
        self._book = module.LimitOrderBook(on_trade=self._on_trade)

    def _on_trade(self, trade: Any) -> None:
        self.fills.append(Fill(trade.taker_id, trade.maker_id, trade.price, trade.quantity))

    def new(self, order: int, side: int, ioc: int, price: int, quantity: int) -> None:
        filled = self._book.limit(self._sides[side], order, quantity, price)
        if ioc and filled < quantity:
            self._book.cancel(order)

    def cancel(self, order: int) -> bool:
        try:
            self._book.cancel(order)
        except self._unknown:
            return False
        return True


class Liquibook(Peer):
    """C++ called through SWIG; fills arrive at a listener."""

    package = "liquibook"

    def __init__(self) -> None:
        super().__init__()
        module = importlib.import_module("liquibook")
        fills = self.fills
        live: dict[int, Any] = {}  # by our id: the peer keeps no reference
        names: dict[int, int] = {}
        self._orders, self._names = live, names

        class Listener(module.OrderListener):  # type: ignore[misc, name-defined]
            def on_fill(self, taker: Any, maker: Any, quantity: int, price: int) -> None:
                maker.fill(quantity, price, 0)
                taker.fill(quantity, price, 0)
                made = names[maker.order_id_]
                fills.append(Fill(names[taker.order_id_], made, price, quantity))
                if maker.open_qty() == 0:
                    del live[made]

            def on_accept(self, order: Any) -> None:
                pass

            def on_cancel(self, order: Any) -> None:
                pass

        self._listener = Listener()
        self._book = module.DepthOrderBook()
        self._book.set_order_listener(self._listener)
        self._order = module.SimpleOrder
        self._conditions = (module.oc_no_conditions, module.oc_immediate_or_cancel)

    def new(self, order: int, side: int, ioc: int, price: int, quantity: int) -> None:
        entered = self._order(side == BUY, price, quantity)
        self._names[entered.order_id_] = order
        self._orders[order] = entered
        self._book.add(entered, self._conditions[ioc])
        if ioc or entered.open_qty() == 0:
            del self._orders[order]

    def cancel(self, order: int) -> bool:
        entered = self._orders.pop(order, None)
        if entered is None:
            return False
        self._book.cancel(entered)
        return True


class Nanobook(Peer):
    """Rust called through PyO3; it gives orders its own ids."""

    package = "nanobook"

    def __init__(self) -> None:
        super().__init__()
        self._exchange = importlib.import_module("nanobook").Exchange()
        self._theirs: dict[int, int] = {}
        self._ours: dict[int, int] = {}

    def new(self, order: int, side: int, ioc: int, price: int, quantity: int) -> None:
        terms = ("buy", "sell")[side], price, quantity, ("gtc", "ioc")[ioc]
        result = self._exchange.submit_limit(*terms)
        ours = self._ours
        ours[result.order_id] = order
        self._theirs[order] = result.order_id
        if result.filled_quantity:
            for trade in result.trades:
                maker = ours[trade.passive_order_id]
                self.fills.append(Fill(order, maker, trade.price, trade.quantity))

    def cancel(self, order: int) -> bool:
        theirs = self._theirs.pop(order, None)
        return theirs is not None and self._exchange.cancel(theirs).success


class Obook(Peer):
    """Go called through ctypes; it gives orders its own ids and queues its events."""

    package = "obook"

    def __init__(self) -> None:
        super().__init__()
        self._module = importlib.import_module("obook")
        self._book = self._module.Book(max_orders=1 << 20)
        self._theirs: dict[int, int] = {}
        self._ours: dict[int, int] = {}

    def new(self, order: int, side: int, ioc: int, price: int, quantity: int) -> None:
        terms = self._module.IOC if ioc else self._module.GTC
        # A user of its own for each order: the peer lets nobody trade with himself.
        result = self._book.submit(order, side, price, quantity, tif=terms)
        self._ours[result.order_id] = order
        self._theirs[order] = result.order_id
        for event in self._book.events():
            if event.kind == self._module.EventKind.TRADE:
                taker, maker = self._ours[event.taker_id], self._ours[event.maker_id]
                self.fills.append(Fill(taker, maker, event.price, event.qty))

    def cancel(self, order: int) -> bool:
        theirs = self._theirs.pop(order, None)
        if theirs is None:
            return False
        result = self._book.cancel(theirs, order)
        return bool(result.status == self._module.Status.CANCELLED)


class MatchingEngine(Peer):
    """Plain Python on sortedcontainers and msgspec."""

    package = "matching-engine"

    def __init__(self) -> None:
        super().__init__()
        domain = importlib.import_module("matching_engine.domain")
        events = importlib.import_module("matching_engine.events")
        self._engine = importlib.import_module("matching_engine.engine").MatchingEngine()
        self._sides = (domain.Side.BUY, domain.Side.SELL)
        self._terms = (domain.TimeInForce.GTC, domain.TimeInForce.IOC)
        self._limit = domain.OrderType.LIMIT
        self._none = domain.SelfTradePrevention.NONE
        self._sequenced, self._new = domain.SequencedCommand, domain.NewOrder
        self._cancel, self._trade = domain.CancelOrder, events.Trade
        self._canceled = events.OrderCancelled
        self._sequence = 0

    def _process(self, command: Any) -> list[Any]:
        self._sequence += 1
        done: list[Any] = self._engine.process(self._sequenced(self._sequence, 1, command))
        return done

    def new(self, order: int, side: int, ioc: int, price: int, quantity: int) -> None:
        terms = (self._limit, self._terms[ioc], False, self._none)
        for event in self._process(self._new(order, 1, self._sides[side], price, quantity, *terms)):
            if type(event) is self._trade:
                self.fills.append(Fill(order, event.maker_order_id, event.price, event.qty))

    def cancel(self, order: int) -> bool:
        return type(self._process(self._cancel(order, 1))[0]) is self._canceled


class CythonOrderbook(Peer):
    """Cython on sortedcontainers; fills stand in a log, ids are its own texts."""

    package = "cython-orderbook"

    def __init__(self) -> None:
        super().__init__()
        module = importlib.import_module("cython_orderbook")
        self._book, self._order = module.OrderBook(), module.Order
        self._sides = (module.OrderSide.BID, module.OrderSide.ASK)
        self._theirs: dict[int, Any] = {}
        self._ours: dict[str, int] = {}

    def new(self, order: int, side: int, ioc: int, price: int, quantity: int) -> None:
        entered = self._order(side=self._sides[side], price=price, original_quantity=quantity)
        self._book.add_limit_order(entered)
        self._ours[entered.order_id] = order
        self._theirs[order] = entered
        log = self._book.trade_log
        for trade in log:
            maker = self._ours[trade.filler_id]
            self.fills.append(Fill(order, maker, trade.price, trade.quantity_filled))
        log.clear()
        if ioc and entered.remaining_quantity:
            self.cancel(order)

    def cancel(self, order: int) -> bool:
        entered = self._theirs.pop(order, None)
        if entered is None or entered.remaining_quantity == 0:
            return False
        self._book.cancel_order(entered.order_id)
        return True


class Pyorderbook(Peer):
    """Plain Python on heaps, Decimal and UUID."""

    package = "pyorderbook"

    def __init__(self) -> None:
        super().__init__()
        module = importlib.import_module("pyorderbook")
        logging.getLogger("pyorderbook.book").setLevel(logging.CRITICAL)
        self._book = module.Book()
        self._enter = (module.bid, module.ask)
        self._theirs: dict[int, Any] = {}
        self._ours: dict[Any, int] = {}

    def new(self, order: int, side: int, ioc: int, price: int, quantity: int) -> None:
        entered = self._enter[side]("X", price, quantity)
        self._ours[entered.id] = order
        self._theirs[order] = entered
        for trade in self._book.match(entered).trades:
            maker = self._ours[trade.standing_order_id]
            self.fills.append(Fill(order, maker, int(trade.fill_price), trade.fill_quantity))
        if ioc and entered.quantity:
            self.cancel(order)

    def cancel(self, order: int) -> bool:
        entered = self._theirs.pop(order, None)
        if entered is None or self._book.get_order(entered.id) is None:
            return False
        self._book.cancel(entered)
        return True


class LightMatchingEngine(Peer):
    """Plain Python on dictionaries of lists; it gives orders its own ids."""

    package = "lightmatchingengine"

    def __init__(self) -> None:
        super().__init__()
        module = importlib.import_module("lightmatchingengine.lightmatchingengine")
        self._engine = module.LightMatchingEngine()
        self._sides = (module.Side.BUY, module.Side.SELL)
        self._theirs: dict[int, Any] = {}
        self._ours: dict[int, int] = {}

    def new(self, order: int, side: int, ioc: int, price: int, quantity: int) -> None:
        entered, trades = self._engine.add_order("X", price, quantity, self._sides[side])
        self._ours[entered.order_id] = order
        self._theirs[order] = entered
        for trade in trades:
            if trade.order_id != entered.order_id:  # the maker's; the taker's sums them up
                maker = self._ours[trade.order_id]
                self.fills.append(Fill(order, maker, trade.trade_price, trade.trade_qty))
        if ioc and entered.leaves_qty:
            self.cancel(order)

    def cancel(self, order: int) -> bool:
        entered = self._theirs.pop(order, None)
        if entered is None or entered.leaves_qty == 0:
            return False
        return self._engine.cancel_order(entered.order_id, "X") is not None


PEERS: tuple[Callable[[], Peer], ...] = (
    OrderlyChaos,
    Liquibook,
    Nanobook,
    Obook,
    MatchingEngine,
    CythonOrderbook,
    Pyorderbook,
    LightMatchingEngine,
)
"""Every peer that is known how to drive, installed or not."""
