"""The demo: a whole product in a temporary directory, under load, with a kill, checked at the end.

Everything goes the way that any client goes: orders over the socket through the client library,
what is shown through the readers of shared memory, and the trades out of the log.
"""

import os
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TextIO

from engine.config import Config, check_config, load_config
from engine.plan import Plan
from engine.sections import EngineSection, FrontendSection, InstrumentSection
from frontend.demo.driver import Assignment
from frontend.demo.killing import Kill
from frontend.demo.load import Load, Tick, Told
from frontend.demo.meter import Meter, percentiles
from frontend.demo.progress import Progress, progress_on
from frontend.demo.scene import DONE, FAILED, NOW, Scene, Step
from frontend.demo.summary import print_summary
from frontend.demo.verdict import Seen, look, run_checks
from frontend.launch import running_engine
from frontend.reading import Reader

MIN_MATCHERS = 2
MAX_ORDERS = 6_000_000
"""Of all drivers: they stop there, so that the demo's arrays stay below about 2 GB."""
ARRAY_SHARE = 0.6
"""Of ``MAX_ORDERS``, what the step before the kill may enter."""
ALONE_SHARE, KILL_SHARE = 0.3, 0.3
"""Of the seconds of a demo, the first and the third step's."""
Show = Callable[[TextIO], AbstractContextManager[Progress]]

LOOK_S = 0.2
"""Between two looks at the running product: they take a little of what they show."""
BACK_S = 60.0
"""How long a killed matcher may take to be back."""


def run_demo(
    seconds: float, symbols: int, seed: int | None, out: TextIO, progress_on: Show = progress_on
) -> int:
    """Run the demo and show it on ``out``; return the exit code: 0, or 1 for a failed check.

    Raises ``ServeError`` or ``DemoError`` where it could not be carried out.
    """
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="shardbook-demo-") as name:
        directory = Path(name)
        config = demo_config(directory / "data", symbols)
        ready = False

        def announce(line: str) -> None:
            if not ready:  # what a kill makes the product say, the picture says
                print(line, file=out, flush=True)

        print(f"demo of {seconds:g} s in {directory}, --seed {seed}", file=out, flush=True)
        with ExitStack() as stack:
            with running_engine(config, directory / "data", announce) as plan:
                ready = True
                progress = stack.enter_context(progress_on(out))
                demo = _Demo(plan, seconds, seed, progress)
                told = demo.trade(directory)
                seen = look(plan, told, seed)
                demo.stopping()
            good = demo.check(told, seen)
        print_summary(told, out)
    return 0 if good else 1


def demo_config(data_dir: Path, symbols: int) -> Config:
    """Return a configuration of some symbols on at least ``MIN_MATCHERS`` matchers."""
    names = [section.symbol for section in load_config().instruments]
    names += [f"SYM{number}" for number in range(len(names) + 1, symbols + 1)]
    cores = len(os.sched_getaffinity(0))
    config = Config(
        instruments=[InstrumentSection(name, "0.01") for name in names[:symbols]],
        data_dir=str(data_dir),
        engine=EngineSection(matchers=min(max(MIN_MATCHERS, cores // 2), symbols)),
        frontend=FrontendSection(when_busy="wait", when_shard_down="hold"),
    )
    check_config(config)
    return config


class _Demo:
    """The steps, one after the other, and what of them is shown."""

    def __init__(self, plan: Plan, seconds: float, seed: int, progress: Progress) -> None:
        self._plan, self._seconds, self._seed = plan, seconds, seed
        self._progress = progress
        self._next_look_s = 0.0
        names = ("one at a time", "arrays at full rate", "a matcher killed", "checks")
        self._alone, self._arrays, self._kill, self._checks = steps = [Step(n) for n in names]
        processes = f"{len(plan.shards)} matchers, {len(plan.instruments)} symbols"
        self._scene = Scene(f"shardbook demo: {processes}, journal on, every trade logged", steps)

    def trade(self, directory: Path) -> Told:
        """Carry out the first three steps; return what clients were told."""
        probe, drivers = self._assignments(directory)
        load = Load(probe, drivers)
        try:
            latencies = load.connect()
            with Reader(self._plan) as reader:
                meter = Meter(reader, latencies)
                self._one_at_a_time(load, meter)
                load.full_rate()
                self._full_rate(load, meter)
                self._killed(load, meter, reader)
                return load.end()
        finally:
            load.close()

    def stopping(self) -> None:
        """Begin the last step: the product writes what it has, and ends."""
        self._scene.trading = False
        self._begin(self._checks, "the product writes what it has, and stops")

    def check(self, told: Told, seen: Seen) -> bool:
        """Carry out the last step; return whether all is well."""
        step = self._checks

        def tell(text: str) -> None:
            step.text = text
            self._progress.show(self._scene)

        good = True
        for check in run_checks(self._plan, told, seen, tell):
            good &= check.difference is None
            text = check.claim if check.difference is None else f"{check.claim}: {check.difference}"
            done = Step("", DONE if check.difference is None else FAILED, text)
            self._scene.steps.append(done)
            self._progress.show(self._scene)
        text = "clients, log, rings, books and order table tell one story"
        self._end(step, text if good else "they do not tell one story", good)
        return good

    def _assignments(self, directory: Path) -> tuple[Assignment, list[Assignment]]:
        """Return what the probe does, and a driver for each shard."""
        plan = self._plan
        address = str(plan.addresses()[0])
        probe = Assignment(
            address, ["demo-probe"], plan.instruments, (self._seed,), 0, directory / "probe"
        )
        drivers = [
            Assignment(
                address,
                [f"demo-maker-{shard}", f"demo-taker-{shard}"],
                [instrument for instrument in plan.instruments if instrument.shard == shard],
                (self._seed, shard),
                MAX_ORDERS // len(plan.shards),
                directory / f"driver-{shard}",
            )
            for shard in plan.shards
        ]
        return probe, drivers

    def _one_at_a_time(self, load: Load, meter: Meter) -> None:
        self._begin(self._alone, "one client, each order answered before the next")

        def tick() -> None:
            self._scene.alone = percentiles(meter.latencies.between(0))
            self._show(meter)

        start_s = time.monotonic()
        load.one_at_a_time()
        self._work(load, self._seconds * ALONE_SHARE, tick, lambda: len(meter.latencies) > 0)
        tick()
        found, passed_s = self._scene.alone, time.monotonic() - start_s
        rate = (found.commands if found else 0) / passed_s
        self._end(self._alone, f"{rate:,.0f} orders and cancels/s of one client; {found}")

    def _full_rate(self, load: Load, meter: Meter) -> None:
        self._begin(self._arrays, "a maker and a taker a shard")
        first = len(meter.latencies)
        start_s, start = time.monotonic(), meter.totals()

        def tick() -> bool:
            self._scene.beside = percentiles(meter.latencies.between(first))
            self._show(meter)
            return meter.totals()[0] - start[0] >= MAX_ORDERS * ARRAY_SHARE

        seconds = self._seconds * (1 - ALONE_SHARE - KILL_SHARE)
        self._work(
            load,
            seconds,
            tick,
            lambda: len(meter.latencies) > first and meter.totals()[1] > start[1],
        )
        passed_s, end = time.monotonic() - start_s, meter.totals()
        orders, trades = ((new - old) / passed_s for new, old in zip(end, start, strict=True))
        text = f"{orders:,.0f} orders/s, {trades:,.0f} trades/s for {passed_s:.1f} s"
        self._end(self._arrays, text)

    def _killed(self, load: Load, meter: Meter, reader: Reader) -> None:
        """Kill the matcher of the first shard under load, and go on with that load."""
        shard = self._plan.instruments[0].shard
        kill = Kill(reader, shard)
        step = self._kill
        self._begin(step, f"SIGKILL of matcher {shard}, pid {kill.pid}")

        def tick() -> None:
            if kill.look():
                step.text = _back(kill, shard)
            self._show(meter)

        load.work(self._seconds * KILL_SHARE, tick)
        deadline = time.monotonic() + BACK_S
        while not kill.look() and time.monotonic() < deadline:
            time.sleep(0.01)
        self._end(step, _back(kill, shard), kill.back_after_s is not None)

    def _work(self, load: Load, seconds: float, tick: Tick, something: Callable[[], bool]) -> None:
        """Let the clients work for some time, and on a busy machine until there is something."""
        load.work(seconds, tick)
        while not something() and not load.finished:
            load.work(LOOK_S, tick)

    def _begin(self, step: Step, text: str) -> None:
        step.state, step.text = NOW, text
        self._progress.show(self._scene)

    def _end(self, step: Step, text: str, good: bool = True) -> None:
        step.state, step.text = DONE if good else FAILED, text
        self._progress.show(self._scene)

    def _show(self, meter: Meter) -> None:
        now = time.monotonic()
        if now < self._next_look_s:
            return
        self._next_look_s = now + LOOK_S
        self._scene.sample = meter.sample()
        self._progress.show(self._scene)


def _back(kill: Kill, shard: int) -> str:
    if kill.back_after_s is None:
        return f"matcher {shard} is not back"
    passed = f"{kill.back_after_s:.2f} s"
    return f"SIGKILL of matcher {shard} under that load: it served again after {passed}"
