"""What /ready says: 200 only while an order would be taken."""

import os
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec

from engine.plan import Plan
from ipc.memory.status import StatusWriter
from tests.http import API, Http, free_port, http_section, serving
from tests.product import make_config, running, until
from tests.test_http_faults import pid_of

ORDER = {"user_id": "a", "order_type": "limit", "side": "buy", "price": 1, "quantity": 1}


def not_ready(http: Http) -> list[str]:
    """What /ready names; nothing where it is 200."""
    reply = http.call("GET", "/ready")
    if reply.status == 200:
        assert reply.body["status"] == "ready"
        return []
    assert (reply.status, reply.code) == (503, "NOT_READY")
    assert reply.headers["retry-after"] == "1"
    named: list[str] = reply.body["error"]["details"]["down"]
    assert named
    return named


@contextmanager
def no_room(pid: int) -> Iterator[None]:
    """Let a process write no file longer than a page: to it the disk is full."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4_096, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def test_a_journal_that_waits_for_the_disk_is_not_ready() -> None:
    extra = "answer_timeout_s = 1"
    with serving(workers=1, extra=extra) as plan, Http(plan) as http, Http(plan) as probe:
        until(lambda: not not_ready(probe))
        with no_room(pid_of(plan, "matcher", 0)):
            refused = http.call("POST", f"{API}/orders", ORDER | {"symbol": "AA"})
            assert refused.status == 503
            held = "matcher 0: did not answer within 1 s, its journal waits for room on the disk"
            assert held in not_ready(probe)
            http.post(f"{API}/orders", ORDER | {"symbol": "BB"})
        until(lambda: not not_ready(probe))
        http.post(f"{API}/orders", ORDER | {"symbol": "AA"})


def test_trades_that_wait_to_be_logged_are_not_ready() -> None:
    made = make_config(2, 4, http_section(free_port(), 1, "answer_timeout_s = 1"))
    small = msgspec.structs.replace(made.engine, ring_trades=64)
    with (
        running(msgspec.structs.replace(made, engine=small)) as plan,
        Http(plan) as http,
        Http(plan) as probe,
    ):
        with no_room(pid_of(plan, "persister")):
            status = 200
            for turn in range(200):
                order = ORDER | {"symbol": "AA", "side": ("buy", "sell")[turn % 2]}
                status = http.call("POST", f"{API}/orders", order).status
                if status != 200:
                    break
            assert status == 503
            assert any("its trades wait to be logged" in name for name in not_ready(probe))
        until(lambda: not not_ready(probe))
        http.post(f"{API}/orders", ORDER | {"symbol": "AA"})


def test_a_matcher_that_stands_still_is_not_ready() -> None:
    with serving(workers=1) as plan, Http(plan) as probe, Http(plan) as second:
        stopped = pid_of(plan, "matcher", 1)
        os.kill(stopped, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(2) as pool:
                for named in pool.map(not_ready, (probe, second)):
                    assert "matcher 1: did not answer within 1 s" in named
        finally:
            os.kill(stopped, signal.SIGCONT)
        until(lambda: not not_ready(probe))
        os.kill(stopped, signal.SIGKILL)
        until(lambda: bool(not_ready(probe)))
        until(lambda: not not_ready(probe))


def test_a_product_that_drains_is_not_ready() -> None:
    with serving(workers=1) as plan, Http(plan) as probe:
        supervisor = StatusWriter(plan.status_path, "supervisor", 0)
        supervisor.drain()
        assert "supervisor 0: draining" in not_ready(probe)
        supervisor.ready()
        until(lambda: not not_ready(probe))


def test_under_load_that_waits_for_syncs_it_stays_ready() -> None:
    """A matcher's answer comes behind what came before, and does not wait for what comes later."""

    def load(plan: Plan) -> int:
        with Http(plan) as http:
            batch = {"orders": [ORDER | {"symbol": "AA"}] * 20}
            return sum(http.call("POST", f"{API}/orders/batch", batch).status for _ in range(20))

    before = '[journal]\ndurability = "fsync"\n'
    with (
        serving(workers=1, before=before) as plan,
        Http(plan) as probe,
        ThreadPoolExecutor(3) as pool,
    ):
        loads = [pool.submit(load, plan) for _ in range(3)]
        looks = 0
        while not all(done.done() for done in loads):
            looks += not not_ready(probe)
        assert [done.result() for done in loads] == [20 * 200] * 3
        assert looks
        until(lambda: not not_ready(probe))
