"""Starts of the product that a signal ends, at a random moment from the first instant on.

    python -m bench.stops --rounds 100 [--seed N]

Every round starts ``shardbook serve`` in a session of its own, every third with nothing compiled
yet, and sends a signal to the process alone or to its whole group: while it imports, compiles,
recovers, serves a client that trades, or drains. Then it looks whether exit code, output,
processes, shared memory and log are as they should be.
Exit code 1 where one is not.
"""

import argparse
import itertools
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.children import ENDING
from engine.config import parse_config
from engine.journal.reader import JournalReader
from engine.journal.shard_config import shard_config_of
from engine.plan import Plan
from engine.trade_log.log import read_trades
from frontend.client import Client
from frontend.client.commands import Order
from frontend.client.errors import ClientError
from frontend.client.results import Execution

CONFIG = """
[engine]
matchers = 2
pin = false
[http]
address = ""
[[instruments]]
symbol = "AA"
tick_size = "0.01"
[[instruments]]
symbol = "BB"
tick_size = "0.01"
"""
SIGNALS = (*ENDING[:4], *ENDING[:4], *ENDING[4:], signal.SIGKILL)
"""Those that people and service managers send, twice as often."""
COLD_EVERY = 3
COLD_S = 8.0
"""Where everything has to be compiled, the signal comes within this time."""
SERVING_S = 1.5
"""Half of the others come within this time of its being ready, the rest before."""
PATIENCE_S = 90.0
RUNS_ON = 1000
"""In place of the exit code of a process that its signal has not ended."""
POLL_S = 0.005
FIRST_INSTANTS = 0.1
"""A quarter of the signals comes within this part of that time."""
SYMBOLS = ("AA", "BB")
UNWANTED = ("Traceback", "Exception ignored", "Fatal Python error", "Error:")
STATES = {
    "drains": "\ndraining\n",
    "serves": "\nready\n",
    "waits for its processes": "told to end before it was ready",
    "compiles": "compiling",
}
"""How far the product had come, by what it says, the last first."""
MARK = "SHARDBOOK_STOPS"
"""Environment variable that every process of a round has, and no other."""


@dataclass
class Outcome:
    """What the rounds were, and everything that was wrong."""

    rounds: int = 0
    signals: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    orders: int = 0
    trades: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Ending:
    """A signal, to the process or its whole group, ``after_s`` its start, or after it was ready."""

    number: signal.Signals
    whole_group: bool
    ready: bool
    after_s: float
    cold: bool

    @property
    def name(self) -> str:
        """What is sent to whom."""
        return self.number.name + (" to the group" if self.whole_group else "")

    def __str__(self) -> str:
        """Return a line for people."""
        since = "being ready" if self.ready else "a cold start" if self.cold else "the start"
        return f"{self.name} {self.after_s:.3f} s after {since}"


class Trader(threading.Thread):
    """A client that trades with itself as soon as it can, until it is told that it is enough."""

    def __init__(self, address: str, ids: Iterator[int]) -> None:
        super().__init__(name="trader", daemon=True)
        self.enough = threading.Event()
        self.told: list[Execution] = []
        self._address = address
        self._ids = ids

    def run(self) -> None:
        """Log in when there is somebody, and trade."""
        while not self.enough.is_set():
            with suppress(ClientError, OSError):
                client = Client(self._address, "trader", PATIENCE_S, include_answers=True)
                with client:
                    self._trade(client)
            self.enough.wait(POLL_S)

    def _trade(self, client: Client) -> None:
        try:
            while not self.enough.is_set():
                client.submit_batch(
                    [
                        Order(symbol, side, 3, "1.00", client_order_id=next(self._ids))
                        for symbol in SYMBOLS
                        for side in ("sell", "buy")
                    ]
                )
                self.told += client.reports(timeout_s=0)
        finally:
            with suppress(ClientError):  # what had come before the end counts as well
                for execution in client.reports(timeout_s=0):
                    self.told.append(execution)


class Stops:
    """Rounds on one data directory: what a round leaves, the next starts from."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.outcome = Outcome()
        self._directory = directory
        self._dice = random.Random(seed)
        self._ids = itertools.count(1)
        self._config = directory / "config.toml"
        self._config.write_text(CONFIG)
        self._plan = Plan(parse_config(CONFIG, "stops"), directory / "data")
        self._told: list[Execution] = []
        self._start_s = 0.0
        self._killed = False

    def run(self, rounds: int) -> None:
        """Start once to learn how long that takes, then be random, and end as one should."""
        dice = self._dice
        self._round(Ending(signal.SIGTERM, False, ready=True, after_s=SERVING_S, cold=False))
        for number in range(1, rounds + 1):
            cold = number % COLD_EVERY == 0
            serves = not cold and dice.random() < 0.5
            latest_s = SERVING_S if serves else COLD_S if cold else self._start_s
            latest_s *= dice.choice((1.0, 1.0, 1.0, FIRST_INSTANTS))
            whole_group = dice.random() < 0.5
            after_s = dice.uniform(0, latest_s)
            self._round(Ending(dice.choice(SIGNALS), whole_group, serves, after_s, cold))
        self._round(Ending(signal.SIGTERM, True, ready=True, after_s=SERVING_S, cold=False))
        self._compare()

    def _round(self, ending: Ending) -> None:
        """Start, send a signal, and look."""
        mark, output = secrets.token_hex(8), self._directory / "output"
        environment = {**os.environ, MARK: mark}
        if ending.cold:
            environment["NUMBA_CACHE_DIR"] = str(self._directory / f"cache-{mark}")
        command = [sys.executable, "-m", "frontend", "serve", "--config", str(self._config)]
        command += ["--data-dir", str(self._plan.data_dir)]
        trader = Trader(str(self._plan.addresses()[0]), self._ids)
        with output.open("wb") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=out, env=environment, start_new_session=True
            )
        try:
            trader.start()
            self._await(ending, process, output)
            with suppress(ProcessLookupError):  # it has ended by itself, and that is wrong
                (os.killpg if ending.whole_group else os.kill)(process.pid, ending.number)
            code = _waited_for(process)
            left = self._left(mark, PATIENCE_S if ending.number == signal.SIGKILL else 0.0)
        finally:
            process.kill()
            trader.enough.set()
            trader.join(PATIENCE_S)
            shutil.rmtree(self._directory / f"cache-{mark}", ignore_errors=True)
        self._told += trader.told
        state, wrong = self._judged(ending.number, code, output.read_text(), trader.told)
        wrong += [f"this process is left: {text}" for text in left]
        self.outcome.rounds += 1
        self.outcome.signals[ending.name] += 1
        self.outcome.states[state] += 1
        self.outcome.wrong += [f"{ending}, {state}: {text}" for text in wrong]

    def _await(self, ending: Ending, process: subprocess.Popen[bytes], output: Path) -> None:
        """Return when it is time for the signal, or where the product has ended by itself."""
        begun = since = time.monotonic()
        until_ready = ending.ready
        while until_ready or time.monotonic() - since < ending.after_s:
            if until_ready and b"\nready\n" in output.read_bytes():
                until_ready, since = False, time.monotonic()
                self._start_s = since - begun
            if process.poll() is not None or time.monotonic() - begun > PATIENCE_S:
                return
            time.sleep(POLL_S)

    def _left(self, mark: str, patience_s: float) -> list[str]:
        """Return the processes of a round that are left, having given them some time."""
        deadline = time.monotonic() + patience_s
        while (left := marked(mark)) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return left

    def _judged(
        self, number: int, code: int, output: str, told: list[Execution]
    ) -> tuple[str, list[str]]:
        """Return how far the product had come, and what is wrong."""
        if number == signal.SIGINT and "KeyboardInterrupt" in output and not _is_ours(output):
            return "Python itself starts", []  # its words, before there is any code of ours
        wrong = []
        if code == RUNS_ON:
            wrong.append(f"it ran on for {PATIENCE_S:.0f} s; its output:\n{output}")
        elif code not in (0, -number, 128 + number):
            wrong.append(f"exit code {code}")
        wrong += [f"{word} in its output:\n{output}" for word in UNWANTED if word in output]
        if not self._plan.run_dir.exists():
            self._killed = False
        elif number == signal.SIGKILL:
            self._killed = True  # what it leaves, the next start that comes so far replaces
        elif not self._killed:
            wrong.append(f"{self._plan.run_dir} is left")
        trades = {execution.trade_id for execution in told} - {0}
        logged = {trade.trade_id for trade in read_trades(self._plan.log_dir)}
        if trades - logged:
            wrong.append(f"{len(trades - logged)} trades that were told are not in the log")
        self.outcome.trades += len(trades)
        for state, word in STATES.items():
            if word in output:
                return state, wrong
        return "imports", wrong

    def _compare(self) -> None:
        """Hold all that was ever acknowledged against the journals."""
        kept: set[int] = set()
        for shard in self._plan.shards:
            shard_config = shard_config_of(self._plan, shard)
            for commands in JournalReader(self._plan.journal_dir(shard), shard_config, 0).chunks():
                kept |= set(commands["client_order_id"].tolist())
        told = {execution.client_order_id for execution in self._told}
        self.outcome.orders = len(told)
        if told - kept:
            self.outcome.wrong.append(f"{len(told - kept)} acknowledged orders are not kept")


def marked(mark: str) -> list[str]:
    """Return pid and command line of every process that has this mark in its environment."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (directory / "environ").read_bytes().split(b"\0"):
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ")
                found.append(f"{directory.name} {command.decode(errors='replace')}")
    return found


def _waited_for(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a process, having ended it after some time."""
    try:
        return process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return RUNS_ON


def _is_ours(traceback: str) -> bool:
    return any(f"/{package}/" in traceback for package in ("engine", "frontend", "ipc"))


def main() -> int:
    """Run by hand."""
    parser = argparse.ArgumentParser(prog="python -m bench.stops", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    options = parser.parse_args()
    for number in SIGNALS[:-1]:  # a shell has what it starts in the background ignore some
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    print(f"repeat: python -m bench.stops --rounds {options.rounds} --seed {options.seed}")
    with TemporaryDirectory(prefix="sb-") as directory:
        stops = Stops(Path(directory), options.seed)
        stops.run(options.rounds)
    outcome = stops.outcome
    for name, counted in (("signals", outcome.signals), ("they met", outcome.states)):
        print(f"{name}: {', '.join(f'{what} {n}' for what, n in sorted(counted.items()))}")
    print(f"{outcome.orders} orders and {outcome.trades} trades were told")
    for text in outcome.wrong:
        print(f"WRONG: {text}")
    print(f"{outcome.rounds} rounds, {len(outcome.wrong)} things wrong")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
