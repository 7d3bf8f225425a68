"""What a demo says at its end: what was sent, what came of it, how long it took, the checks."""

from typing import NamedTuple, TextIO

import numpy as np
import numpy.typing as npt

from frontend.demo.driver import WINDOW
from frontend.demo.load import Told
from ipc.vocabulary import CommandType, ExecType

_WORDS = {
    CommandType.NEW: "new orders",
    CommandType.CANCEL: "cancels",
    CommandType.REPLACE: "replaces",
    CommandType.REDUCE: "reduces",
    CommandType.MASS_CANCEL: "mass cancels",
}


class Check(NamedTuple):
    """One check: what holds where ``difference`` is None."""

    claim: str
    difference: str | None


def print_summary(told: Told, trades: int, checks: list[Check], out: TextIO) -> None:
    """Print the counts, the rates, the latency and every check with its outcome."""
    commands = told.answers.total()
    by_type = {
        kind: sum(count for (sent, _), count in told.answers.items() if sent is kind)
        for kind in CommandType
    }
    orders = by_type[CommandType.NEW]
    print(file=out)
    if told.reached_max_orders:
        print(f"stopped early, after {orders:,} orders: the most that is checked", file=out)
    print(f"time      {told.elapsed_s:.1f} s", file=out)
    print(f"orders    {_rate(orders, told)}, {_share(told)}", file=out)
    words = ", ".join(f"{by_type[kind]:,} {word}" for kind, word in _WORDS.items())
    print(f"commands  {_rate(commands, told)}: {words}", file=out)
    print(f"trades    {_rate(trades, told)}", file=out)
    rejects = ", ".join(f"{count:,} {reason.name}" for reason, count in told.rejects.most_common())
    print(f"rejected  {told.rejects.total():,} commands: {rejects or 'none'}", file=out)
    print(f"latency   {latency_text(told.latencies_ns)}", file=out)
    for check in checks:
        if check.difference is None:
            print(f"ok        {check.claim}", file=out)
        else:
            print(f"FAILED    {check.claim}: {check.difference}", file=out)


def latency_text(latencies_ns: npt.NDArray[np.int64]) -> str:
    """Return the percentiles of the probe's latencies and how they were taken."""
    if not len(latencies_ns):
        return "not measured"
    p50, p99, p999 = np.percentile(latencies_ns, [50, 99, 99.9], method="higher").tolist()
    return (
        f"p50 {p50 / 1e3:,.0f} us, p99 {p99 / 1e3:,.0f} us, p99.9 {p999 / 1e3:,.0f} us "
        f"from sending to the answer, of {len(latencies_ns):,} commands of a probe client that "
        f"sends one at a time while up to {WINDOW:,} a driver are under way"
    )


def _rate(count: int, told: Told) -> str:
    return f"{count:,} ({count / max(told.elapsed_s, 1e-9):,.0f}/s)"


def _share(told: Told) -> str:
    accepted = told.answers[CommandType.NEW, ExecType.NEW]
    return f"{accepted:,} of them accepted"
