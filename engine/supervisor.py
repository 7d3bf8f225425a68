"""The supervisor: makes what is shared, starts every process, watches them, and drains.

It holds the lock of the data directory for as long as it lives. Children notice its death by
themselves, finish what they have, and end.
"""

import contextlib
import fcntl
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec

from engine.config import Config
from engine.plan import Member, Plan
from engine.process import run_member
from engine.rescue import RescueError, log_left_trades
from engine.sequences import SequenceFile
from engine.trade_log import TradeLog, TradeLogError
from engine.warm import BOOK_VARIABLE, PROGRESS_VARIABLE
from ipc.board import create_board
from ipc.records import REPORT, TABLE_ENTRY, TRADE
from ipc.ring import REPORTS, create_ring
from ipc.sockets import listen
from ipc.status import ProcessSlot, StatusReader, StatusWriter, create_status
from ipc.table import create_table
from ipc.tls import TlsError, server_context

START_S = 120.0
"""How long processes may take to be ready, compiling for the first time included."""
DRAIN_S = 30.0
"""How long a process may take to finish what it has, before it is killed."""
WATCH_S = 0.5
SLOW_WARM_S = 4.0
"""Loading compiled code takes less; what takes longer compiles, and says so."""

ORDER_BYTES = TABLE_ENTRY.itemsize + 24
"""Shared memory of one order: its entry, its links, its part of the index."""

Announce = Callable[[str], None]


class ServeError(RuntimeError):
    """The product cannot start or go on; the text is for its user."""


class Supervisor:
    """One running product. Use ``start``, ``watch``, ``stop``, in this order."""

    def __init__(self, plan: Plan, announce: Announce) -> None:
        self.plan = plan
        self.stopping = False
        self.clean = True
        """Whether every process has ended as it should so far."""
        self._announce = announce
        self._processes: dict[Member, BaseProcess] = {}
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["engine.preload"])
        self._lock = -1
        self._status: StatusWriter | None = None

    def start(self) -> None:
        """Take the data directory, make what is shared, start everything; return when ready."""
        self._take_directory()
        self._check_port()
        self._make_shared()
        self._warm_up()
        for role in ("matcher", "query", "persister", "frontend", "http"):
            for member in self.plan.members:
                if member.role == role:
                    self._start(member)
        self._until_ready()

    def watch(self) -> None:
        """Keep every process running until ``stopping``, or until a process that began this one
        as its child has ended; restart what may be restarted.

        Raises ``ServeError`` where a matcher has died: its book is gone.
        """
        parent = multiprocessing.parent_process()
        lifeline = [] if parent is None else [parent.sentinel]
        while not self.stopping:
            sentinels = [process.sentinel for process in self._processes.values()]
            ended = wait([*sentinels, *lifeline], WATCH_S)
            if any(end in lifeline for end in ended):
                return  # who started this product for itself is gone
            for member, process in list(self._processes.items()):
                if self.stopping or process.exitcode is None:
                    continue
                name = f"{member.role} {member.index}"
                if member.role == "matcher":
                    raise ServeError(f"{name} died (exit code {process.exitcode})")
                self._announce(f"{name} died (exit code {process.exitcode}); restarting it")
                self._count_restart()
                StatusWriter(self.plan.status_path, member.role, member.index).forget()
                process.close()
                self._start(member)
                self._until_ready()
                self._announce(f"{name} is back")

    def stop(self) -> None:
        """Drain, what faces clients first and what reads last; leave nothing behind."""
        if self._lock < 0:
            return  # the directory is another's
        with contextlib.suppress(ProcessLookupError):
            for role in ("http", "frontend", "matcher", "query", "persister"):
                self._stop_all(role)
        if self._status is not None:
            self._status.stop()
        shutil.rmtree(self.plan.run_dir, ignore_errors=True)
        for address in self.plan.addresses():
            if address.path:
                Path(address.path).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = -1

    def _take_directory(self) -> None:
        plan = self.plan
        try:
            plan.data_dir.mkdir(parents=True, exist_ok=True)
            plan.log_dir.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(plan.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ServeError(f"data directory {plan.data_dir}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._lock, 32, 0).decode().strip()
            os.close(self._lock)
            self._lock = -1
            raise ServeError(
                f"data directory {plan.data_dir} is in use by process {owner or 'unknown'}"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _check_port(self) -> None:
        """Refuse an HTTP port in use (workers share it, so theirs would not be), or a wrong key."""
        tls = self.plan.config.tls
        try:
            server_context(tls.certificate, tls.key)
        except TlsError as error:
            raise ServeError(str(error)) from None
        address = self.plan.http_address
        if address is None:
            return
        try:
            listen(address).close()
        except OSError as error:
            raise ServeError(f"cannot listen on {address}: {error.strerror}") from None

    def _make_shared(self) -> None:
        """Make every mapping anew; what a killed product left is replaced."""
        plan, engine = self.plan, self.plan.config.engine
        self._rescue()
        shutil.rmtree(plan.run_dir, ignore_errors=True)
        plan.run_dir.mkdir(parents=True, mode=0o700)
        self._check_memory()
        plan.config_path.write_bytes(msgspec.json.encode(plan.config))
        logged = self._last_logged()
        for shard in plan.shards:
            instruments = plan.instruments_of(shard)
            sequences = SequenceFile(plan.sequences_path(shard))
            counters = sequences.load()
            last = max(counters.trade_sequence, logged[shard])
            sequences.store(counters._replace(trade_sequence=last))
            sequences.close()
            create_ring(plan.ring_path(shard), shard, engine.ring_trades, last)
            create_ring(plan.report_ring_path(shard), shard, engine.ring_reports, 0, 0, REPORTS)
            resting = sum(instrument.max_resting_orders for instrument in instruments)
            capacity = resting + engine.ended_orders
            create_table(plan.table_path(shard), shard, capacity, engine.ended_orders)
            symbols = [instrument.number for instrument in instruments]
            create_board(plan.board_path(shard), shard, symbols, engine.depth_levels)
        slots = [ProcessSlot(m.role, m.index, m.core) for m in plan.members]
        create_status(plan.status_path, slots)
        self._status = StatusWriter(plan.status_path, "supervisor", 0)
        self._status.start(os.getpid(), time.time_ns())
        self._status.ready()

    def _rescue(self) -> None:
        """Log what a killed product left in shared memory, before it is made anew."""
        try:
            logged = log_left_trades(self.plan)
        except RescueError as error:
            raise ServeError(str(error)) from None
        if logged:
            self._announce(f"logged {logged} trades that a killed run had left in its rings")

    def _check_memory(self) -> None:
        """Refuse to start where shared memory cannot hold what is to be laid out.

        It is allocated whole: running out later would end a matcher in the midst of a write.
        """
        engine = self.plan.config.engine
        resting = sum(instrument.max_resting_orders for instrument in self.plan.instruments)
        orders = resting + engine.ended_orders * len(self.plan.shards)
        rings = engine.ring_trades * TRADE.itemsize + engine.ring_reports * REPORT.itemsize
        needed = orders * ORDER_BYTES + rings * len(self.plan.shards)
        space = os.statvfs(self.plan.run_dir)
        free = min(space.f_bavail * space.f_frsize, available_bytes())
        if needed > free:
            raise ServeError(
                f"{self.plan.run_dir}: {needed >> 20} MB of shared memory are needed, "
                f"{free >> 20} MB are free; lower max_resting_orders, ended_orders, ring_trades "
                "or ring_reports"
            )

    def _last_logged(self) -> dict[int, int]:
        """Return the last trade of every shard in the log: no trade id is ever given twice."""
        settings = self.plan.config.persister
        try:
            log = TradeLog(self.plan.log_dir, settings.segment_bytes, compress=settings.compress)
        except (OSError, TradeLogError) as error:
            raise ServeError(f"trade log: {error}") from None
        with contextlib.closing(log):
            return {shard: log.last_sequence(shard) for shard in self.plan.shards}

    def _count_restart(self) -> None:
        if self._status is not None:
            self._status.add("restarts", 1)

    def _warm_up(self) -> None:
        """Start the fork server, which compiles ahead, and pass on what it is at."""
        progress = self.plan.run_dir / "warming"
        os.environ[PROGRESS_VARIABLE] = str(progress)
        os.environ[BOOK_VARIABLE] = self.plan.config.engine.book
        # The fork server looks for what to import before it learns this process's sys.path.
        known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        here = str(Path(__file__).resolve().parent.parent)
        os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, known)])
        begun = time.monotonic()
        shown = ""
        first = self._context.Process(target=_nothing)
        starter = threading.Thread(target=first.start)
        starter.start()
        while starter.is_alive():
            starter.join(0.1)
            text = progress.read_text() if progress.exists() else ""
            if text != shown and time.monotonic() - begun > SLOW_WARM_S:
                if not shown:
                    self._announce("compiling for this machine, on the first start only")
                self._announce(f"compiling {text}")
                shown = text
        first.join()

    def _start(self, member: Member) -> None:
        process = self._context.Process(
            target=run_member,
            args=(self.plan.config, str(self.plan.data_dir), member.role, member.index),
            name=f"shardbook-{member.role}-{member.index}",
        )
        process.start()
        self._processes[member] = process

    def _until_ready(self) -> None:
        """Wait until every process says that it serves."""
        reader = StatusReader(self.plan.status_path)
        deadline = time.monotonic() + START_S
        while any(process.state != "ready" for process in reader.processes()):
            if self.stopping:
                raise ServeError("stopped before it was ready")
            for member, process in self._processes.items():
                if process.exitcode is not None:
                    raise ServeError(
                        f"{member.role} {member.index} did not start "
                        f"(exit code {process.exitcode}); its error is above"
                    )
            if time.monotonic() > deadline:
                raise ServeError(f"not ready after {START_S:.0f} s")
            wait([process.sentinel for process in self._processes.values()], 0.01)

    def _stop_all(self, role: str) -> None:
        """Tell every process of a role to finish, and wait; kill what does not."""
        members = [m for m in self._processes if m.role == role]
        for member in members:
            self._processes[member].terminate()
        deadline = time.monotonic() + DRAIN_S
        for member in members:
            process = self._processes[member]
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                self.clean = False
                self._announce(f"{role} {member.index} did not finish; killing it")
                process.kill()
                process.join()
            elif process.exitcode:
                self.clean = False
                self._announce(f"{role} {member.index} ended with exit code {process.exitcode}")
            process.close()
            del self._processes[member]


def available_bytes() -> int:
    """Return how much memory the machine can still give, as Linux estimates it."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _nothing() -> None:
    """Be the first process that the fork server makes."""


def serve(config: Config, data_dir: Path | None, announce: Announce) -> int:
    """Run the product until SIGINT or SIGTERM; return the exit code. Raises ``ServeError``."""
    plan = Plan(config, data_dir)
    supervisor = Supervisor(plan, announce)

    def on_signal(*_: object) -> None:
        supervisor.stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        supervisor.start()
        for line in describe(plan):
            announce(line)
        announce("ready")
        supervisor.watch()
        announce("draining")
    finally:
        supervisor.stop()
    announce("stopped" if supervisor.clean else "stopped, but not cleanly: see above")
    return 0 if supervisor.clean else 1


def describe(plan: Plan) -> list[str]:
    """Return the plan in lines: processes, cores, symbols, addresses, directories."""
    lines = [f"data directory {plan.data_dir}"]
    for member in plan.members:
        core = "any core" if member.core is None else f"core {member.core}"
        symbols = ""
        if member.role == "matcher":
            names = (instrument.symbol for instrument in plan.instruments_of(member.index))
            symbols = f": {', '.join(names) or 'no symbols'}"
        lines.append(f"{member.role} {member.index} on {core}{symbols}")
    lines += [f"listening on {address}" for address in plan.addresses()]
    if plan.http_address is not None:
        scheme = "https" if plan.config.tls.certificate else "http"
        lines.append(f"listening on {scheme}://{plan.config.http.address}")
    return lines
