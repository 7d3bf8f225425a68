"""What one client's flood does to another's latency.

    python -m bench.fairness [--rates N ...] [--rounds N] [--window N]

One client sends at a modest rate in open loop (a late send counts as latency): alone, beside a
second one that does the same (equal shares), and beside one that floods, sending as fast as its
window lets it. Both trade the same symbols. The product has to keep the median beside a flood
within twice that at equal shares.

What counts is how another client behaves, not how much the one looked at sends: its rate is the
same in all three, and each rate stands by itself. That asks for more than the same total load
dealt out evenly would: at a low rate the machine is nearly idle at equal shares, and has nothing
left beside a flood, of which generator, product and persister share two cores. Twofold is what a
client that uses less than its share of two would wait if the server took both by turns.
"""

import argparse
import contextlib
import selectors
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

from bench.clients import SILENCE_S, Client, Target
from bench.latency import WARM_ORDERS, LatencyRun, OpenLoop, Percentiles, percentiles
from bench.load import ClientRun, Generators, Job, PipelinedRun, generators, open_clients, run_of
from bench.measure import machine, table, versions
from bench.products import Product, configured, running_product
from bench.spread import spread
from bench.traffic import Traffic, encode_traffic
from engine.config import Config, load_config

FLOOD_COMMANDS = 4_000_000
RESTING_ORDERS = 4_000
PIECE_BYTES = 1 << 16
_LATE_S = 0.05
"""The flood is on its way before the first order that counts, and until after the last."""


@dataclass
class Flood:
    """Send the commands of one client for some time, as fast as the other side takes them."""

    target: Target
    traffic: Path
    user_prefix: str
    seconds: float

    def prepare(self) -> None:
        """Connect."""
        [self._client] = open_clients(
            self.target, self.traffic, [0], self.user_prefix, FLOOD_COMMANDS
        )

    def run(self) -> PipelinedRun:
        """Flood, and then wait for what is not answered yet."""
        client = self._client
        client.sock.setblocking(False)
        start_ns = time.monotonic_ns()
        deadline_s = time.monotonic() + self.seconds
        with selectors.DefaultSelector() as selector:
            events = selectors.EVENT_READ | selectors.EVENT_WRITE
            selector.register(client.sock, events, client)
            ends = client.share.ends
            while time.monotonic() < deadline_s and client.sent_bytes < ends[-1]:
                for _, ready in selector.select(_LATE_S):
                    if ready & selectors.EVENT_READ:
                        client.receive()
                    if ready & selectors.EVENT_WRITE:
                        client.send_to(min(int(ends[-1]), client.sent_bytes + PIECE_BYTES))
            self._finish_frame(client, selector)
        return PipelinedRun(start_ns, time.monotonic_ns(), [run_of(client)])

    def finish(self) -> list[ClientRun]:
        """Cancel what rests and close."""
        self._client.withdraw()
        return [run_of(self._client)]

    def _finish_frame(self, client: Client, selector: selectors.BaseSelector) -> None:
        """Send the rest of the last frame, and let the share end there; see its answer."""
        count = int(np.searchsorted(client.share.ends, client.sent_bytes, "left")) + 1
        limit = int(client.share.ends[count - 1])
        client.share = client.share.first(int(client.share.request_ids[count - 1]))
        while not client.done:
            if not selector.select(SILENCE_S):
                raise TimeoutError(f"no answer came for {SILENCE_S:.0f} s")
            client.send_to(limit)
            with contextlib.suppress(BlockingIOError):
                client.receive()


@dataclass
class Rate:
    """What each round found at one rate of the client that is looked at."""

    orders_s: int
    commands: int
    alone: list[Percentiles] = field(default_factory=list)
    equal: list[Percentiles] = field(default_factory=list)
    flooded: list[Percentiles] = field(default_factory=list)
    flood_rates: list[float] = field(default_factory=list)

    def round(self, bench: "Bench") -> None:
        """Measure all three once, one after the other."""
        quiet = bench.open_loop(bench.quiet, self)
        self.alone.append(bench.measure(self, quiet))
        self.equal.append(bench.measure(self, quiet, bench.open_loop(bench.other, self)))
        flood = bench.flood(self.commands / self.orders_s + 4 * _LATE_S)
        self.flooded.append(bench.measure(self, quiet, flood))


class Bench:
    """One product, two generators, and the flows that their clients send."""

    def __init__(
        self, product: Product, senders: Generators, scratch: Path, commands: int, seed: int
    ) -> None:
        self.product = product
        self.senders = senders
        self.quiet, self.other, self.many = (
            encode_traffic(
                scratch / f"{number}",
                product.plan.instruments,
                1,
                count,
                seed + number,
                RESTING_ORDERS * len(product.plan.instruments),
            )
            for number, count in enumerate((commands, commands, FLOOD_COMMANDS))
        )

    def open_loop(self, traffic: Traffic, rate: Rate) -> Job:
        """Return the job of a client that sends at a rate."""
        return OpenLoop(
            self.product.target,
            traffic.directory,
            [0],
            self.product.user_prefix(),
            rate.commands,
            rate.orders_s,
        )

    def flood(self, seconds: float) -> Job:
        """Return the job of a client that floods."""
        prefix = self.product.user_prefix()
        return Flood(self.product.target, self.many.directory, prefix, seconds)

    def measure(self, rate: Rate, quiet: Job, other: Job | None = None) -> Percentiles:
        """Run the client that is looked at, and maybe another; return its percentiles."""
        assert isinstance(quiet, OpenLoop)
        quiet.user_prefix = self.product.user_prefix()
        done = self.product.measured([quiet] if other is None else [quiet, other], self.senders)
        run = done.found[0]
        assert isinstance(run, LatencyRun)
        for found in done.found[1:]:
            if isinstance(found, PipelinedRun):
                seconds = (found.end_ns - found.start_ns) / 1e9
                rate.flood_rates.append(found.clients[0].commands / seconds)
        return percentiles(run)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--config", type=Path, help="configuration of the product")
    parser.add_argument("--matchers", type=int, default=1)
    parser.add_argument("--rates", type=int, nargs="+", default=[1_000, 20_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round's open loop")
    parser.add_argument("--window", type=int, help="frontend.window, not the configuration's")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    config = _with_window(load_config(options.config), options.window)
    rates = [
        Rate(rate, max(3 * WARM_ORDERS, int(rate * options.seconds))) for rate in options.rates
    ]
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="sb-", dir="/dev/shm")))
        senders = stack.enter_context(generators(2))
        changed = configured(config, options.matchers, True, None)
        product = stack.enter_context(running_product(changed))
        most = max(rate.commands for rate in rates)
        bench = Bench(product, senders, scratch, most, options.seed)
        for rate in rates:
            Rate(rate.orders_s, rate.commands).round(bench)  # pays for what is done once
        for _ in range(options.rounds):
            for rate in rates:
                rate.round(bench)
    print(f"machine: {machine()}")
    print(f"versions: {versions('numpy', 'numba', 'msgspec', 'uvloop')}")
    print(f"{options.matchers} matchers, window {config.frontend.window}, {options.rounds} rounds")
    print(report(rates))


def _with_window(config: Config, window: int | None) -> Config:
    if window is None:
        return config
    frontend = msgspec.structs.replace(config.frontend, window=window)
    return msgspec.structs.replace(config, frontend=frontend)


def report(rates: Sequence[Rate]) -> str:
    """Return the table of latencies, and the ratio that counts."""
    rows = []
    for rate in rates:
        cases = {
            "alone": rate.alone,
            "equal shares": rate.equal,
            f"beside a flood of {statistics.median(rate.flood_rates) / 1e3:.0f} thousand/s": (
                rate.flooded
            ),
        }
        for name, found in cases.items():
            ratios = [a.p50 / b.p50 for a, b in zip(found, rate.equal, strict=True)]
            rows.append(
                [
                    f"{rate.orders_s}/s, {name}",
                    *(spread([getattr(p, of) for p in found], 0) for of in ("p50", "p99", "p999")),
                    spread(ratios, 2),
                ]
            )
    header = ["", "p50", "p99", "p99.9", "p50 by that at equal shares"]
    return table("Round trip in microseconds, from the intended time of sending", header, rows)


if __name__ == "__main__":
    main()
