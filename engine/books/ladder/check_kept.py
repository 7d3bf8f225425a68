"""The invariants of kept client_order_ids, checked in plain Python."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.books.id_memory import counted_up_to, forgotten_before
from engine.books.ladder.layout import PROBE_LIMIT, WALK_LIMIT
from engine.books.ladder.tables import Tables

HashOf = Callable[[int, int, int], int]
"""(account, instrument, client_order_id) -> hash."""


def check_kept(tables: Tables, hash_of: HashOf) -> None:
    """Raise AssertionError, saying what is wrong, if an invariant does not hold."""
    state: Any = tables.state[0]
    last, recent_orders = int(state["order_sequence"]), int(state["recent_orders"])
    forgotten = forgotten_before(last, recent_orders)
    assert state["forgotten"] == forgotten, "forgotten: not what the last order says"
    numbers = _oldest_to_newest(tables)
    rows = tables.kept[numbers]
    assert (np.diff(rows["order_id"]) > 0).all(), "kept: not oldest first"
    assert len(numbers) == state["kept_count"] <= state["kept_ids"], "kept_count: not as many"
    free = _free(tables)
    assert sorted([*numbers, *free]) == list(range(1, state["fresh_kept"])), "kept: rows are lost"
    assert not tables.kept["order_id"][free].any(), "kept: a free row has an order_id"
    _check_chains(tables, numbers, hash_of)
    if state["account_ids"]:
        _check_holders(tables, numbers, forgotten, counted_up_to(last, recent_orders))


def _oldest_to_newest(tables: Tables) -> list[int]:
    numbers: list[int] = []
    number, older = int(tables.state["oldest_kept"][0]), 0
    while number:
        assert len(numbers) < len(tables.kept), "kept: goes round"
        assert tables.kept["older"][number] == older, f"kept {number}: older"
        numbers.append(number)
        older, number = number, int(tables.kept["newer"][number])
    assert tables.state["newest_kept"][0] == older, "newest_kept: is not"
    return numbers


def _free(tables: Tables) -> list[int]:
    free: list[int] = []
    number = int(tables.state["free_kept"][0])
    while number:
        assert len(free) < len(tables.kept), "free kept: goes round"
        free.append(number)
        number = int(tables.kept["chain"][number])
    return free


def _check_chains(tables: Tables, numbers: list[int], hash_of: HashOf) -> None:
    """Check that each chain has those of its hash, and no others."""
    shift = int(tables.state["head_shift"][0])
    found: set[int] = set()
    longest = 0
    for head in np.flatnonzero(tables.heads["row"]).tolist():
        number, steps = int(tables.heads["row"][head]), 0
        while number:
            row = tables.kept[number]
            key = (int(row["account"]), int(row["instrument"]), int(row["client_order_id"]))
            assert hash_of(*key) >> shift == head, f"kept {number}: in the chain of another hash"
            assert number not in found, f"kept {number}: is in a chain twice"
            found.add(number)
            number, steps = int(row["chain"]), steps + 1
        longest = max(longest, steps)
    assert found == set(numbers), "kept: not what the chains have"
    noted = tables.state["old_limit"][0] < 0
    assert longest <= 2 * WALK_LIMIT or noted, f"kept: a search passes over {longest}"


def _check_holders(tables: Tables, numbers: list[int], forgotten: int, counted: int) -> None:
    """Check what is counted for each account, and that none has more than its share."""
    most = int(tables.state["account_ids"][0])
    mask = len(tables.recent) - 1
    recent = tables.recent[np.arange(forgotten + 1, counted + 1) & mask]
    of_recent = Counter(recent["account"][recent["client_order_id"] != 0].tolist())
    of_kept: dict[int, list[int]] = {}
    for number in numbers:
        of_kept.setdefault(int(tables.kept["account"][number]), []).append(number)
    places = np.flatnonzero((tables.holders["recent"] != 0) | (tables.holders["kept"] != 0))
    accounts = tables.holders["account"][places].tolist()
    assert sorted(accounts) == sorted(of_recent.keys() | of_kept.keys()), "holders: not those"
    for place, account in zip(places.tolist(), accounts, strict=True):
        holder, kept = tables.holders[place], of_kept.get(account, [])
        where = f"holder {account}"
        assert holder["recent"] == of_recent[account], f"{where}: recent"
        assert holder["kept"] == len(kept), f"{where}: kept"
        assert not kept or len(kept) + of_recent[account] <= most, f"{where}: above its share"
        if not kept:
            continue
        assert (holder["oldest"], holder["newest"]) == (kept[0], kept[-1]), f"{where}: its ends"
        links = tables.kept["newer_of_account"][kept].tolist()
        assert links == [*kept[1:], 0], f"{where}: its ids are not linked in order"
    taken = set(places.tolist())
    for place in taken:
        near = place
        while near in taken:
            near = (near - 1) % len(tables.holders)
        assert (place - near) % len(tables.holders) <= 2 * PROBE_LIMIT, "holders: too long a run"
