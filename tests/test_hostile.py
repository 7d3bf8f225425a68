"""The bench of hostile clients: each attack runs and stops, and what is lost is found."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bench.hostile.crowd import ATTACKS
from bench.hostile.run import Bench, Outcome, Plan, settings
from bench.load import generators
from bench.products import Product
from tests.product import running

SILENT = {"silent-connections"}
"""Attacks that send nothing."""


@pytest.fixture(scope="module")
def outcome() -> Iterator[Outcome]:
    """What one foe of each attack does within a few seconds, beside few honest orders."""
    plan = Plan(
        seconds=3,
        clients=len(ATTACKS),
        rounds=1,
        orders_s=500,
        reads_s=10,
        only=(),
        keyed=True,
        pin=False,
        seed=1,
        settle_s=0,
        warm_commands=2_000,
    )
    config, keys = settings(plan)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="sb-")))
        senders = stack.enter_context(generators(3))
        product = Product(stack.enter_context(running(config)))
        yield Bench(plan, product, keys, scratch, senders).run()


def test_every_attack_runs_and_stops(outcome: Outcome) -> None:
    [hostile] = [phase for phase in outcome.phases if phase.hostile]
    assert hostile.tolls.keys() == ATTACKS.keys()
    for name, toll in hostile.tolls.items():
        assert toll.turns + toll.refused + toll.overdue > 0, name
    assert sum(toll.sent_bytes for toll in hostile.tolls.values()) > 0


def test_nothing_of_the_honest_ones_is_lost(outcome: Outcome) -> None:
    assert outcome.lost == []
    assert outcome.trades > 0
    assert all(phase.orders >= 1_500 for phase in outcome.phases)
