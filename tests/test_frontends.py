"""Several frontends: one account on all of them, one order of events, each with its own socket."""

import os

from engine.plan import Plan
from ipc.memory.status import ProcessStatus, StatusReader
from ipc.vocabulary import ExecType, Reason
from ipc.wire.messages import Cancel, MassCancel, MassCancelReport, NewOrder, Reject, Report
from tests.product import Wire, make_config, running, until


def test_accounts_trade_and_cancel_across_frontends() -> None:
    port = 20_000 + os.getpid() % 20_000
    extra = f'[frontend]\nprocesses = 2\ntcp = "127.0.0.1:{port}"\n'
    with running(make_config(2, 4, extra)) as plan:
        first, second, tcp = plan.addresses()
        assert first.path != second.path
        assert tcp.port == port
        with Wire(plan, "alice", first) as here, Wire(plan, "alice", second) as there:
            assert here.welcome is not None
            assert there.welcome is not None
            assert here.welcome.session != there.welcome.session
            here.send(NewOrder(1, 1, 5, 1, 2, 1, 100, 5))
            reports = [here.receive(), there.receive()]
            assert reports[0] == reports[1]
            there.send(NewOrder(1, 2, 5, 1, 2, 1, 100, 5))
            duplicate = there.receive()
            assert isinstance(duplicate, Reject)
            assert duplicate.code == Reason.DUPLICATE_CLIENT_ORDER_ID
            here.receive()
            with Wire(plan, "bob", tcp) as bob:
                bob.send(NewOrder(1, 3, 0, 2, 2, 1, 100, 2))
                fills = [here.receive(), there.receive()]
                assert [fill.exec_type for fill in fills] == [ExecType.TRADE] * 2
            there.send(Cancel(1, 4, 0, 5))
            for wire in (here, there):
                report = wire.receive()
                assert isinstance(report, Report)
                assert report.exec_type == ExecType.CANCELED
            here.send(MassCancel(0, 6))
            assert isinstance(here.receive(), MassCancelReport)
        until(lambda: sum(p.counters["frames_in"] for p in frontends(plan)) >= 7)
        assert [p.number for p in frontends(plan)] == [0, 1]


def frontends(plan: Plan) -> list[ProcessStatus]:
    """Return what the frontends show of themselves."""
    return [p for p in StatusReader(plan.status_path).processes() if p.role == "frontend"]
