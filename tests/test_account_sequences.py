"""Every account's reports are numbered without a gap, whatever the batches, and after a restore."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.shard.account_sequences import AccountSequences
from ipc.records import REPORT, account_of, make_id
from ipc.vocabulary import ExecType, Flag

ACCOUNTS = [1, 2, 1025, 2**63, 2**64 - 1]


def reports_for(accounts: list[int]) -> np.ndarray:
    """Return reports of trades, one for each account in the list."""
    reports = np.zeros(len(accounts), REPORT)
    reports["exec_type"], reports["account"] = ExecType.TRADE, accounts
    return reports


@given(
    st.lists(st.sampled_from(ACCOUNTS)),
    st.lists(st.integers(0, 60)),
    st.integers(0, 60),
    st.just(3),
)
def test_numbers_follow_from_the_reports_alone(
    accounts: list[int], cuts: list[int], kept: int, shard: int
) -> None:
    reports = reports_for(accounts)
    counters, seen = AccountSequences(shard), Counter()
    wanted = []
    for account in accounts:
        seen[account] += 1
        wanted.append(make_id(shard, seen[account]))
    places = sorted(min(cut, len(reports)) for cut in cuts)
    for first, last in zip([0, *places], [*places, len(reports)], strict=True):
        assert counters.number(reports[first:last]) == first + 1
        if first <= kept < last:
            state, counters = counters.state(), AccountSequences(shard)
            counters.restore(state)
    assert reports["account_sequence"].tolist() == wanted
    assert counters.reports == len(reports)
    assert [counters.last(account) for account in ACCOUNTS] == [
        make_id(shard, seen[account]) for account in ACCOUNTS
    ]
    assert dict(zip(*(c.tolist() for c in counters.state()[1:]), strict=True)) == seen


def test_more_accounts_than_there_was_room_for() -> None:
    accounts = [account_of(f"user {n}") for n in range(5_000)]
    counters = AccountSequences(0)
    for turn in (1, 2):
        reports = reports_for(accounts)
        counters.number(reports)
        assert set(reports["account_sequence"].tolist()) == {turn}
    again = AccountSequences(0)
    again.restore(counters.state())
    reports = reports_for(accounts[::-1])
    again.number(reports)
    assert set(reports["account_sequence"].tolist()) == {3}
    assert again.reports == 15_000


def test_the_part_of_a_sum_has_no_number() -> None:
    reports = reports_for([7, 7, 7, 7])
    reports["exec_type"][1:3] = ExecType.MASS_CANCELED
    reports["flags"][1] = Flag.AGGREGATE
    reports["account_sequence"] = 99  # what was there before does not matter
    counters = AccountSequences(1)
    counters.number(reports)
    assert reports["account_sequence"].tolist() == [make_id(1, 1), 0, make_id(1, 2), make_id(1, 3)]
    assert counters.reports == 4
    assert counters.last(8) == make_id(1, 0)


KINDS = [ExecType.NEW, ExecType.REJECTED, ExecType.MASS_CANCELED, ExecType.TRADE]


@given(st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(KINDS))), st.integers(0, 30))
def test_nothing_is_counted_before_an_accounts_first_order(
    told: list[tuple[int, ExecType]], cut: int
) -> None:
    reports = reports_for([account for account, _ in told])
    reports["exec_type"] = [kind for _, kind in told]
    counters, seen = AccountSequences(3), Counter()
    wanted = []
    for account, kind in told:
        counts = account in seen or kind in (ExecType.NEW, ExecType.TRADE)
        seen.update([account] if counts else [])
        wanted.append(make_id(3, seen[account]) if counts else 0)
    counters.number(reports[:cut])
    counters.number(reports[cut:])
    assert reports["account_sequence"].tolist() == wanted
    assert counters.known == len(seen)
    assert counters.reports == len(reports)
