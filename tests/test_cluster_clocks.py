"""Nodes of a cluster whose clocks are an hour apart: time is that of the log."""

import sys
import time
from pathlib import Path

import pytest

from frontend.client import Client
from ipc.vocabulary import OrdStatus
from tests.fork_server import ROOT
from tests.kafka_brokers import Brokers
from tests.nodes_of_kafka import clustered
from tests.product import until

HOUR_NS = 3_600_000_000_000
WRONG = """
import os, time
real, late_ns = time.time_ns, int(os.environ["CLOCK_IS_WRONG_NS"])
time.time_ns = lambda: real() + late_ns
time.time = lambda: time.time_ns() / 1e9
"""
"""What an interpreter does first: its clock is wrong from then on."""


@pytest.mark.servers
def test_nodes_whose_clocks_are_an_hour_apart_have_one_time(
    broker: Brokers,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WRONG)
    with clustered(broker, "clocks", tmp_path_factory, 0) as cluster:
        for wrong_ns in (-HOUR_NS, HOUR_NS):
            told = f"CLOCK_IS_WRONG_NS={wrong_ns}", f"PYTHONPATH={tmp_path}:{ROOT}"
            cluster.add(python=("env", *told, sys.executable))
        slow, fast = (plan.addresses()[0] for plan in cluster.plans())
        with Client(slow, "alice") as alice, Client(fast, "bob") as bob:
            began_ns = time.time_ns()
            entered = alice.submit("AA", "buy", 2, "1.00")
            taken = bob.submit("AA", "sell", 1, "1.00")
            ended_ns = time.time_ns()
            for execution in (entered, taken):
                about_ns = execution.raw.timestamp_ns
                assert began_ns - 10**9 < about_ns < ended_ns + 10**9
            soon_ns = time.time_ns() + 300_000_000
            timed = alice.submit(
                "BB", "buy", 1, "1.00", time_in_force="gtd", expire_time_ns=soon_ns
            )
            hour_ns = time.time_ns() + HOUR_NS // 2
            kept = alice.submit("BB", "buy", 1, "1.00", time_in_force="gtd", expire_time_ns=hour_ns)
            until(lambda: alice.order(timed.order_id).ord_status == OrdStatus.EXPIRED)
            assert bob.submit("AA", "buy", 1, "0.50").exec_type is not None
            assert alice.order(kept.order_id).ord_status == OrdStatus.NEW
        cluster.agree(tmp_path)
