"""Every structural invariant of the compiled book, checked in plain Python."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from engine.books.ladder import layout, order_index
from engine.books.ladder.check_extras import (
    check_extras,
    check_free,
    check_links,
    hidden_of,
    link_of,
)
from engine.books.ladder.check_kept import check_kept
from engine.books.ladder.layout import (
    COUNTING,
    FINISHED,
    LEAF,
    MATCHING,
    NO_KEY,
    SIDE_BITS,
    SIDES,
    SWEEPING,
    TRIGGERING,
    WAITING,
    WINDOW,
    WORD_BITS,
)
from engine.books.ladder.tables import Tables
from engine.books.rules import HELD_PRICE, LINK_HELD, MAX_LISTED, can_rest, waits_for_rise
from ipc.records import SEQUENCE_MASK
from ipc.vocabulary import CONDITIONAL, MAX_PRICE, MAX_QUANTITY, Flag, OrderType, Side


def check(tables: Tables) -> None:
    """Raise AssertionError, saying what is wrong and where, if an invariant does not hold."""
    state = tables.state[0]
    levels_seen: set[int] = set()
    orders_seen: dict[int, int] = {}  # slot: side
    forks_seen: set[int] = set()
    for side in range(len(tables.sides)):
        levels = _side_levels(tables, side, forks_seen)
        assert levels_seen.isdisjoint(levels.values()), f"side {side}: another's level"
        levels_seen.update(levels.values())
        _check_best(tables, side, levels)
        _check_queues(tables, side, levels, orders_seen)
    _check_counts(tables, orders_seen)
    for instrument in range(len(tables.instruments)):
        _check_instrument(tables, instrument)
    in_hand = set()
    if state["unfinished"] == MATCHING:
        in_hand.add(int(state["unfinished_slot"]))
    elif state["unfinished"] == TRIGGERING and state["trigger_slot"]:
        in_hand.add(int(state["trigger_slot"]))
    if in_hand:
        assert in_hand.isdisjoint(orders_seen), "the order at hand rests"
    live = orders_seen.keys() | in_hand
    assert len(live) == state["live_orders"], "live_orders: not as many as there are"
    spare = MAX_LISTED - 1
    assert len(live) <= state["order_capacity"] + spare, "live_orders: more than there is room for"
    check_free(tables.orders["next"], "order", state, live)
    check_free(tables.levels["oldest"], "level", state, levels_seen)
    check_free(tables.forks["low"], "fork", state, forks_seen)
    check_extras(tables, orders_seen, live)
    if state["unfinished"] == FINISHED:
        check_links(tables, live)
    order_ids = tables.orders["order_id"]
    assert all(order_ids[slot] for slot in live), "a live order without an order_id"
    assert np.count_nonzero(order_ids) == len(live), "a free node with an order_id"
    old = _old_orders(tables, live, orders_seen)
    assert len(old) == state["old_orders"], "old_orders: not as many as there are"
    assert len(old) <= state["old_capacity"] + spare, "old_orders: more than there is room for"
    _check_client_ids(tables, old, orders_seen)
    _check_order_ids(tables, old)
    _check_recent(tables)
    _check_sweeps(tables, orders_seen)
    _check_holdings(tables, orders_seen)
    check_kept(tables, partial(_hash_client_id, tables))


# Levels ------------------------------------------------------------------------------------------


def _side_levels(tables: Tables, side: int, forks_seen: set[int]) -> dict[int, int]:
    """Return the levels of a side by key, in order, having checked the window and the tree."""
    record = tables.sides[side]
    near = _near_levels(tables, side)
    assert len(near) == record["near_levels"], f"side {side}: near_levels"
    far: dict[int, int] = {}
    if record["far_root"]:
        _walk_far(tables, int(record["far_root"]), WORD_BITS, far, forks_seen)
    assert len(far) == record["far_levels"], f"side {side}: far_levels"
    assert list(far) == sorted(far), f"side {side}: the far tree is out of order"
    assert min(far, default=NO_KEY) == record["far_key"], f"side {side}: far_key"
    window_key = int(record["window_key"])
    assert window_key % WORD_BITS == 0, f"side {side}: window_key"
    inside = [key for key in far if window_key <= key < window_key + WINDOW]
    assert not inside, f"side {side}: far levels {inside} in the window"
    return dict(sorted((near | far).items()))


def _near_levels(tables: Tables, side: int) -> dict[int, int]:
    words = tables.words["bits"][side * layout.WINDOW_WORDS :][: layout.WINDOW_WORDS]
    groups = (words != 0).reshape(layout.WINDOW_SUMMARIES, WORD_BITS)
    summaries = np.packbits(groups, axis=1, bitorder="little").view("<u8").ravel()
    kept = tables.summaries["bits"][side * layout.WINDOW_SUMMARIES :][: layout.WINDOW_SUMMARIES]
    assert (summaries == kept).all(), f"side {side}: a summary differs from its words"
    window_key = int(tables.sides[side]["window_key"])
    positions = np.flatnonzero(np.unpackbits(words.view("u1"), bitorder="little")).tolist()
    near = tables.near["level"][side * WINDOW :][:WINDOW]
    return {
        window_key + (position - window_key) % WINDOW: int(near[position]) for position in positions
    }


def _walk_far(
    tables: Tables, node: int, above: int, levels: dict[int, int], forks_seen: set[int]
) -> None:
    """Collect the levels below a node of a far tree, whose forks' bits must fall on the way."""
    if node >= LEAF:
        level = node - LEAF
        levels[int(tables.levels["key"][level])] = level
        return
    assert node not in forks_seen, f"fork {node}: stands twice"
    forks_seen.add(node)
    fork = tables.forks[node]
    bit = int(fork["bit"])
    assert bit < above, f"fork {node}: bit"
    for child, value in ((int(fork["low"]), 0), (int(fork["high"]), 1)):
        below: dict[int, int] = {}
        _walk_far(tables, child, bit, below, forks_seen)
        assert all(key >> bit & 1 == value for key in below), f"fork {node}: key on the wrong side"
        assert not levels.keys() & below.keys(), f"fork {node}: a key stands twice"
        levels.update(below)


def _check_best(tables: Tables, side: int, levels: dict[int, int]) -> None:
    record = tables.sides[side]
    best_key = next(iter(levels), NO_KEY)
    assert record["best_key"] == best_key, f"side {side}: best_key"
    assert record["best_level"] == levels.get(best_key, 0), f"side {side}: best_level"
    flipped = side % SIDES in (0, WAITING + 1)
    assert record["flip"] == (layout.KEY_MASK if flipped else 0), f"side {side}: flip"


def _check_queues(
    tables: Tables, side: int, levels: dict[int, int], orders_seen: dict[int, int]
) -> None:
    """Check the queue of every level, and add its orders to those seen."""
    count = 0
    for key, level in levels.items():
        row = tables.levels[level]
        where = f"side {side}: level {level}"
        assert row["key"] == key, f"{where}: key"
        assert row["side"] == side, f"{where}: side"
        quantity, length, older, slot = 0, 0, 0, int(row["oldest"])
        assert slot, f"{where}: empty"
        while slot:
            assert slot not in orders_seen, f"{where}: order {slot} stands twice"
            orders_seen[slot] = side
            order: Any = tables.orders[slot]
            _check_order(tables, side, key, slot)
            assert order["level"] == level, f"{where}: order {slot}: level"
            assert order["previous"] == older, f"{where}: order {slot}: previous"
            quantity += int(order["leaves_qty"])
            length += 1
            older, slot = slot, int(order["next"])
        assert row["youngest"] == older, f"{where}: youngest"
        assert row["quantity"] == quantity, f"{where}: quantity"
        assert row["order_count"] == length, f"{where}: order_count"
        count += length
    if side & WAITING:
        assert tables.sides[side]["order_count"] == count, f"side {side}: order_count"


def _check_order(tables: Tables, side: int, key: int, slot: int) -> None:
    order: Any = tables.orders[slot]
    state = tables.state[0]
    order_id, kind_bits = int(order["order_id"]), int(order["kind_bits"])
    code, rise = kind_bits & 0xFF, side % SIDES == WAITING
    kind, triggered = kind_bits >> 8 & 0xFF, kind_bits >> 24 & Flag.TRIGGERED != 0
    if side & WAITING and key ^ int(tables.sides[side]["flip"]) == HELD_PRICE:
        assert rise, f"order {slot}: is held on the wrong side"
        assert link_of(tables, slot) & LINK_HELD, f"order {slot}: is held"
        assert kind in (*CONDITIONAL, OrderType.LIMIT), f"order {slot}: type"
        assert not triggered, f"order {slot}: is held and is triggered"
    elif side & WAITING:
        assert kind in CONDITIONAL, f"order {slot}: type"
        assert not link_of(tables, slot) & LINK_HELD, f"order {slot}: is not held"
        assert waits_for_rise(kind, code) == rise, f"order {slot}: waits for the other direction"
        assert not triggered, f"order {slot}: waits and is triggered"
        assert order["cum_qty"] == 0, f"order {slot}: waits and is filled"
    else:
        assert code == (Side.SELL if side % 2 else Side.BUY), f"order {slot}: side"
        assert can_rest(kind, kind_bits >> 16 & 0xFF), f"order {slot}: type or time_in_force"
        assert triggered == (kind in CONDITIONAL), f"order {slot}: triggered"
        price = int(order["price"]) ^ int(tables.sides[side]["flip"])
        assert price == key, f"order {slot}: price"
    assert order["leaves_qty"] > 0, f"order {slot}: nothing left"
    assert order["cum_qty"] >= 0, f"order {slot}: cum_qty"
    total = order["leaves_qty"] + order["cum_qty"] + hidden_of(tables, slot)
    assert total <= MAX_QUANTITY, f"order {slot}: quantity"
    assert order_id & ~SEQUENCE_MASK == state["shard_bits"], f"order {slot}: shard of its id"
    assert order_id & SEQUENCE_MASK <= state["order_sequence"], f"order {slot}: id not given yet"


def _check_counts(tables: Tables, orders_seen: dict[int, int]) -> None:
    """Check how many orders a side that rests has, with those that wait to enter it."""
    codes = tables.orders["kind_bits"] & 0xFF
    entering = [side // SIDES * SIDES + int(codes[slot]) - 1 for slot, side in orders_seen.items()]
    counts = np.bincount(np.array(entering, np.int64), minlength=len(tables.sides))
    for side, count in enumerate(counts.tolist()):
        if not side & WAITING:
            assert tables.sides[side]["order_count"] == count, f"side {side}: order_count"


def _check_instrument(tables: Tables, instrument: int) -> None:
    limits = tables.instruments[instrument]
    bids, asks, rise, fall = tables.sides[instrument * SIDES :][:SIDES]
    symbol = int(limits["symbol"])
    assert tables.symbols["instrument"][symbol] == instrument + 1, f"symbol {symbol}: instrument"
    resting = bids["order_count"] + asks["order_count"]
    assert resting <= limits["max_resting_orders"], f"symbol {symbol}: more orders than allowed"
    for record in (bids, asks):
        price = int(record["best_key"]) ^ int(record["flip"])
        outside = record["best_key"] != NO_KEY and not 1 <= price <= MAX_PRICE
        assert not outside, f"symbol {symbol}: best price out of range"
    if tables.state["unfinished"][0] == FINISHED and NO_KEY not in (
        bids["best_key"],
        asks["best_key"],
    ):
        best_bid = int(bids["best_key"]) ^ int(bids["flip"])
        assert best_bid < asks["best_key"], f"symbol {symbol}: the book is crossed"
    waiting = int(rise["order_count"] + fall["order_count"])
    assert limits["waiting"] == waiting, f"symbol {symbol}: waiting: not as many as there are"
    last_price = int(limits["last_price"])
    if tables.state["unfinished"][0] == FINISHED and last_price:
        assert tables.state["traded_high"][0] == 0, "traded_high: nothing is under way"
        reached = rise["best_key"] <= last_price
        reached |= fall["best_key"] <= last_price ^ int(fall["flip"])
        assert not reached, f"symbol {symbol}: an order waits that is reached"


# Indexes -----------------------------------------------------------------------------------------


def _check_probes(tables: Tables, taken: Any, homes: dict[int, int], table: str) -> None:
    """Check that no gap lies between an entry's home and its place in a hash, nor a long way."""
    longest = 0
    for index, home in homes.items():
        place = home
        while place != index:
            assert taken[place], f"{table}: entry {index} cannot be found"
            place = (place + 1) % len(taken)
        longest = max(longest, (index - home) % len(taken))
    _check_walk(tables, longest, layout.PROBE_LIMIT, table)


def _check_walk(tables: Tables, longest: int, limit: int, table: str) -> None:
    """Check that no search takes longer than may be, or that it is noted."""
    noted = tables.state["old_limit"][0] < 0
    assert longest <= limit or noted, f"{table}: a search passes over {longest} entries"


def _old_orders(tables: Tables, live: Any, resting: dict[int, int]) -> dict[int, int]:
    """Return slot and order_id of the live orders that the ring has dropped.

    Check that it has all others, as they are.
    """
    last = int(tables.state["order_sequence"][0])
    old = {}
    for slot in live:
        order_id = int(tables.orders["order_id"][slot])
        if last - (order_id & SEQUENCE_MASK) >= len(tables.recent):
            old[slot] = order_id
        else:
            recent = tables.recent[order_id & (len(tables.recent) - 1)]
            assert recent["slot"] == slot, f"recent: not where order {slot} is"
            for name in ("account", "client_order_id"):
                same = recent[name] == tables.orders[name][slot]
                assert same, f"recent: {name} of order {slot}"
            instrument = int(recent["instrument"])
            instrument = resting.get(slot, instrument * SIDES) >> SIDE_BITS
            assert recent["instrument"] == instrument, f"recent: instrument of order {slot}"
    return old


def _check_client_ids(tables: Tables, old: dict[int, int], resting: dict[int, int]) -> None:
    entries = tables.client_ids["entry"]
    homes = {place: int(entries[place]) >> 32 for place in np.flatnonzero(entries).tolist()}
    slots = [int(entries[place]) & 0xFFFFFFFF for place in homes]
    expected = [slot for slot in old if tables.orders["client_order_id"][slot]]
    assert sorted(slots) == sorted(expected), "client_ids: not the old orders"
    for slot, hash32 in zip(slots, homes.values(), strict=True):
        if slot in resting:
            order = tables.orders[slot]
            instrument = resting[slot] >> SIDE_BITS
            key = (int(order["account"]), instrument, int(order["client_order_id"]))
            assert hash32 == _hash_client_id(tables, *key), f"client_ids: hash of order {slot}"
    homes = {place: hash32 * len(entries) >> 32 for place, hash32 in homes.items()}
    _check_probes(tables, entries, homes, "client_ids")


def _check_order_ids(tables: Tables, old: dict[int, int]) -> None:
    entries = tables.order_ids["slot"]
    places = np.flatnonzero(entries).tolist()
    assert sorted(entries[places].tolist()) == sorted(old), "order_ids: not the old orders"
    homes = {
        place: _hash_order_id(tables, old[int(entries[place])]) * len(entries) >> 32
        for place in places
    }
    _check_probes(tables, entries, homes, "order_ids")


def _check_holdings(tables: Tables, resting: dict[int, int]) -> None:
    """Check the counts of each account's orders, where there are any."""
    state: Any = tables.state[0]
    counted = np.flatnonzero(tables.instruments["counted"]).tolist()
    assert len(counted) == state["counted_instruments"], "counted_instruments: not as many"
    watching = SWEEPING * (state["sweep_count"] > 0) | COUNTING * (len(counted) > 0)
    assert state["watching"] == watching, "watching: not what it should"
    if not counted:
        return
    expected: dict[tuple[int, int], int] = {}
    for slot, side in resting.items():
        if side >> SIDE_BITS in counted:
            key = int(tables.orders["account"][slot]), side >> SIDE_BITS
            expected[key] = expected.get(key, 0) + 1
    rows = tables.holdings[tables.holdings["place"] != 0]
    kept = {(a, place - 1): n for a, place, n in rows.tolist() if n and place - 1 in counted}
    assert kept == expected, "holdings: not what rests"
    assert len(rows) == state["holdings_used"] <= len(tables.holdings) // 2, "holdings: used"


def _check_sweeps(tables: Tables, resting: dict[int, int]) -> None:
    """Check that the cursor of a mass cancel is on an order that rests."""
    state = tables.state[0]
    count, slot = int(state["sweep_count"]), int(state["sweep_slot"])
    assert 0 <= count < len(tables.sweeps), "sweeps: more than there is room for"
    assert slot == 0 or slot in resting, f"sweeps: the cursor is on {slot}, which does not rest"
    begun = tables.sweeps["stop_price"][:count].astype(bool).tolist()
    assert not any(begun[1:]), "sweeps: one has begun before its turn"
    assert slot == 0 or begun[:1] == [True], "sweeps: a cursor, and none that has begun"
    keys = tables.sweeps[["account", "symbol"]][:count].tolist()
    assert len(set(keys)) == count, "sweeps: an account and symbol stands twice"


def _check_recent(tables: Tables) -> None:
    """Check that the chain of its bucket leads to each recent order, and over how many others."""
    longest = 0
    state = tables.state[0]
    last, recent_orders = int(state["order_sequence"]), int(state["recent_orders"])
    mask, shift = len(tables.recent) - 1, int(state["bucket_shift"])
    for sequence in range(max(0, last - recent_orders) + 1, last + 1):
        recent = tables.recent[sequence & mask]
        if not recent["client_order_id"]:
            continue
        key = (int(recent["account"]), int(recent["instrument"]), int(recent["client_order_id"]))
        hash32 = _hash_client_id(tables, *key)
        bucket = tables.buckets[hash32 >> shift]
        assert int(bucket["signature"]) >> (hash32 & 31) & 1, f"recent {sequence}: signature"
        age, sought, steps = last - int(bucket["newest"]) & 0xFFFFFFFF, last - sequence, 0
        while age < sought:
            previous = int(tables.recent["previous"][(last - age) & mask])
            older = last - previous & 0xFFFFFFFF
            assert older > age, f"recent {sequence}: not in the chain of its bucket"
            age = older
            steps += 1
        assert age == sought, f"recent {sequence}: not in the chain of its bucket"
        longest = max(longest, steps)
    # Of each finer hash value one may have come without a search.
    _check_walk(tables, longest, layout.WALK_LIMIT + 32, "recent")


# The kernel's own hash functions, run as plain Python ---------------------------------------------


def _factors(tables: Tables) -> SimpleNamespace:
    state: Any = tables.state[0]
    names = ("id_factor", "account_factor", "symbol_factor", "last_factor")
    return SimpleNamespace(accounts=True, **{name: state[name] for name in names})


def _hash_client_id(tables: Tables, account: int, instrument: int, client_order_id: int) -> int:
    function: Any = order_index.client_id_hash
    with np.errstate(over="ignore"):
        hash32 = function.py_func(
            _factors(tables),
            np.uint64(account),
            int(tables.instruments["symbol"][instrument]),
            np.uint64(client_order_id),
        )
    return int(hash32)


def _hash_order_id(tables: Tables, order_id: int) -> int:
    function: Any = order_index.order_id_hash
    with np.errstate(over="ignore"):
        return int(function.py_func(_factors(tables), order_id))
