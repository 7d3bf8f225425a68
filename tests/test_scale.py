"""The simulation by which ``bench.scale`` predicts: what can be said of it without one."""

import pytest

from bench.scale import PIECE, simulate

COSTS = {"client": 0.4, "frontend": 0.2, "matcher": 1.0, "broker": 0.6, "the rest": 0.3}
MANY = 200 * PIECE


def test_one_core_does_all_work_one_after_the_other() -> None:
    for shards in (1, 4):
        found = simulate(MANY, shards, 1, COSTS)
        most = 1e6 / sum(COSTS.values())
        least_work = sum(COSTS.values()) - COSTS["the rest"]  # the rest may come behind the end
        assert most * 0.99 <= found <= 1e6 / least_work * 1.01


def test_with_many_cores_the_slowest_process_bounds_all() -> None:
    for shards, slowest_us in ((1, 1.0), (2, 0.5), (8, 0.4)):
        assert simulate(MANY, shards, 64, COSTS) == pytest.approx(1e6 / slowest_us, rel=0.05)
