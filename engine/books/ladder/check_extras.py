"""The invariants of the compiled book's side table, and of what is free in any table."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from engine.books.ladder.layout import NO_EXPIRY, SIDE_BITS, WAITING
from engine.books.ladder.tables import Tables
from engine.books.rules import LINK_CHILD, LINK_HELD, LINK_NEXT, LINK_PAIRED, LINKS
from ipc.vocabulary import Flag


def is_rare(tables: Tables, slot: int) -> bool:
    """Tell whether an order has a row in the side table."""
    return int(tables.orders["kind_bits"][slot]) >> 24 & Flag.RARE != 0


def hidden_of(tables: Tables, slot: int) -> int:
    """Return what an order hides."""
    if not is_rare(tables, slot):
        return 0
    return int(tables.extras["hidden"][tables.places["extra"][slot]])


def link_of(tables: Tables, slot: int) -> int:
    """Return whom an order is tied to."""
    return int(tables.extras["link"][tables.places["extra"][slot]]) if is_rare(tables, slot) else 0


def check_links(tables: Tables, live: Collection[int]) -> None:
    """Check, between commands, that pairs have the same open, and those held one to wait for."""
    state: Any = tables.state[0]
    assert not state["first_due"], "first_due: nothing is under way"
    assert not state["first_released"], "first_released: nothing is under way"
    linked = {int(tables.orders["order_id"][slot]): slot for slot in live if link_of(tables, slot)}
    for order_id, slot in linked.items():
        link, where = link_of(tables, slot), f"order {order_id}: link"
        row: Any = tables.extras[tables.places["extra"][slot]]
        assert link in LINKS, where
        assert not row["due"], f"{where}: due"
        assert not row["released"], f"{where}: released"
        if link & LINK_PAIRED:
            other = linked.get(order_id + (1 if link & LINK_NEXT else -1), 0)
            both = link_of(tables, other) | link if other else 0
            assert both & LINK_PAIRED == LINK_PAIRED, f"{where}: not one of two"
            one, two = (tables.orders["leaves_qty"][n] for n in (slot, other))
            assert one == two, f"{where}: not the same open"
        if link & LINK_HELD:
            before = (linked.get(order_id - back, 0) for back in (1, 2))
            held = any(n and link_of(tables, n) & LINK_CHILD for n in before)
            assert held, f"{where}: held for nobody"


def check_extras(tables: Tables, resting: Mapping[int, int], live: Collection[int]) -> None:
    """Check that rare orders have a row each, and nobody else one; ``resting``: slot and side."""
    rare = [slot for slot in live if is_rare(tables, slot)]
    places = tables.places["extra"]
    assert np.count_nonzero(places) == len(rare), "places: not as many as there are rare orders"
    rows = {int(places[slot]) for slot in rare}
    assert len(rows) == len(rare), "extras: two orders have one"
    icebergs = np.zeros(len(tables.instruments), np.int64)
    for slot in rare:
        extra: Any = tables.extras[places[slot]]
        assert extra["slot"] == slot, f"order {slot}: its extra is another one's"
        expires = int(extra["expire_time_ns"])
        rare_by = extra["display_quantity"] > 0 or expires or extra["link"]
        assert rare_by, f"order {slot}: is not rare"
        if expires:
            assert tables.expiries["extra"][extra["next"]] == places[slot], f"order {slot}: expiry"
        side = resting.get(slot, WAITING)
        if side & WAITING:
            assert extra["hidden"] == 0, f"order {slot}: hides a part and does not rest"
        elif extra["display_quantity"]:
            icebergs[side >> SIDE_BITS] += 1
            shown = tables.orders["leaves_qty"][slot]
            assert shown <= extra["display_quantity"], f"order {slot}: shows too much"
            assert extra["hidden"] >= 0, f"order {slot}: hidden"
        else:
            assert extra["hidden"] == 0, f"order {slot}: hides a part and has none to show"
            icebergs[side >> SIDE_BITS] += int(extra["link"] != 0)
    assert (tables.instruments["icebergs"] == icebergs).all(), "icebergs: not as many as there are"
    state = tables.state[0]
    check_free(tables.extras["next"], "extra", state, rows)
    used = np.flatnonzero(tables.extras["slot"]).tolist()
    assert set(used) == rows, "extras: a row of nobody"
    _check_expiries(tables, rows)


def _check_expiries(tables: Tables, rows: Collection[int]) -> None:
    """Check that those that expire stand in a heap, the next one first."""
    state: Any = tables.state[0]
    expiring = [row for row in rows if tables.extras["expire_time_ns"][row]]
    heap = tables.expiries["extra"][1 : state["fresh_expiry"]].tolist()
    assert sorted(heap) == sorted(expiring), "expiries: not those that expire"
    keys = [
        (int(tables.extras["expire_time_ns"][row]), int(tables.orders["order_id"][slot]))
        for row, slot in zip(heap, tables.extras["slot"][heap].tolist(), strict=True)
    ]
    for place in range(2, len(keys) + 1):
        assert keys[place // 2 - 1] < keys[place - 1], f"expiries: entry {place} is out of order"
    first = keys[0][0] if keys else NO_EXPIRY
    assert state["next_expiry_ns"] == first, "next_expiry_ns: not that of the next one"


def check_free(links: Any, kind: str, state: Any, used: Any) -> None:
    """Check that each node of a kind is either used, or free, or was never used."""
    free: set[int] = set()
    node = int(state[f"free_{kind}"])
    fresh = int(state[f"fresh_{kind}"])
    while node:
        assert node not in free, f"free {kind}s: {node} stands twice"
        assert node < fresh, f"free {kind}s: {node} was never used"
        free.add(node)
        node = int(links[node])
    assert free.isdisjoint(used), f"free {kind}s: some are in use"
    assert len(free) + len(used) == fresh - 1, f"{kind}s: some are lost"
