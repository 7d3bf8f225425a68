"""What ties the orders of a list to one another: what happens to one, and to the others then.

An order finds those that it is tied to by their ids, which are next to its own. What is *due* to
them is noted in their rows of EXTRA, which are chained as it came, and carried out once the command
that brought it about is through: ``settle``. Those that are held stand in one queue behind all that
wait for a rise, as if for HELD_PRICE; what is released of them is chained likewise, and enters when
nothing triggers any more: ``stops.find_next``.
"""

from engine.books.ladder import order_index, reports
from engine.books.ladder.layout import KEY_MASK, NOTHING_TRADED
from engine.books.ladder.memory import (
    Book,
    Int,
    Row,
    extra_at,
    kept_apart,
    open_book,
    order_at,
    place_at,
    signed,
    state_at,
)
from engine.books.rules import (
    LINK_CHILD,
    LINK_CHILDREN,
    LINK_HELD,
    LINK_LISTED,
    LINK_NEXT,
    LINK_PAIRED,
)
from ipc.native.compiled import called, inlined

GOES = -1
"""Due to an order that is cancelled."""


@inlined
def note(book: Book) -> None:
    """Let the command at hand go on with what is due or released, once it is through."""
    state = state_at(book.state)
    if state.traded_high == 0:
        state.traded_low = KEY_MASK
        state.traded_high = NOTHING_TRADED


@inlined
def row_of(book: Book, slot: Int) -> Row:
    return extra_at(book, place_at(book, slot).extra)


@inlined
def linked(book: Book, order_id: Int, bits: Int) -> Int:
    """Return the slot of a live order that is tied so, or 0."""
    slot = order_index.find_order_id(book, order_id)
    if slot == 0 or not reports.is_rare(signed(order_at(book, slot).kind_bits)):
        return 0
    return signed(slot) if signed(row_of(book, slot).link) & bits else 0


@inlined
def other_of(book: Book, slot: Int) -> Int:
    """Return the slot of the other one of a pair, or 0; an order has a row."""
    link = signed(row_of(book, slot).link)
    if link & LINK_PAIRED == 0:
        return 0
    order_id = order_at(book, slot).order_id
    return linked(book, order_id + (1 if link & LINK_NEXT else -1), LINK_PAIRED)


@inlined
def owe(book: Book, slot: Int, due: Int) -> None:
    """Note what is due to an order: so much less, or GOES."""
    state = state_at(book.state)
    number = place_at(book, slot).extra
    extra = extra_at(book, number)
    if extra.due == 0:
        extra.next_due = 0
        if state.first_due == 0:
            state.first_due = number
        else:
            extra_at(book, state.last_due).next_due = number
        state.last_due = number
        note(book)
    goes = due < 0 or extra.due < 0
    extra.due = GOES if goes else extra.due + due


@called
def lose(address: Int, slot: Int, quantity: Int) -> None:
    """A rare order has so much less open than it had: so has the other one of its pair."""
    kept_apart()
    book = open_book(address, False, False)
    other = other_of(book, slot)
    if other != 0:
        owe(book, other, quantity)


@called
def go_alone(address: Int, slot: Int) -> None:
    """A rare order has triggered: the other one of its pair goes."""
    kept_apart()
    book = open_book(address, False, False)
    other = other_of(book, slot)
    if other != 0:
        owe(book, other, GOES)
        row_of(book, slot).link = LINK_LISTED


@inlined
def release(book: Book, slot: Int) -> None:
    """Let an order that is held go, once its turn comes."""
    state = state_at(book.state)
    number = place_at(book, slot).extra
    extra = extra_at(book, number)
    extra.released = 1
    extra.next_released = 0
    if state.first_released == 0:
        state.first_released = number
    else:
        extra_at(book, state.last_released).next_released = number
    state.last_released = number
    note(book)


@inlined
def take_back(book: Book, number: Int) -> None:
    """Take a row out of those that are released."""
    state = state_at(book.state)
    extra = extra_at(book, number)
    extra.released = 0
    if state.first_released == number:
        state.first_released = extra.next_released
        return
    before = state.first_released
    while extra_at(book, before).next_released != number:
        before = extra_at(book, before).next_released
    extra_at(book, before).next_released = extra.next_released
    if state.last_released == number:
        state.last_released = before


@called
def untie(address: Int, slot: Int) -> None:
    """An order of a list ends: those that it is tied to go, or are released."""
    kept_apart()
    book = open_book(address, False, False)
    order = order_at(book, slot)
    extra = row_of(book, slot)
    link = signed(extra.link)
    if extra.released != 0:
        take_back(book, place_at(book, slot).extra)
    other = other_of(book, slot)
    if other != 0:
        owe(book, other, GOES)
    for distance in range(1, 3):
        bit = LINK_CHILD if distance == 1 else LINK_CHILDREN
        child = linked(book, order.order_id + distance, LINK_HELD) if link & bit else 0
        if child != 0 and order.leaves_qty != 0:
            owe(book, child, GOES)
        elif child != 0:
            release(book, child)
    extra.link = 0
