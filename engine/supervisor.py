"""The supervisor: makes what is shared, starts every process, watches them, and drains.

It holds the lock of the data directory for as long as it lives. Signals that ask to end are taken
by it alone. Children notice its death by themselves, finish what they have, and end.
"""

import contextlib
import fcntl
import math
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from engine.children import FINISH, has_ended, heeded, take
from engine.errand import ErrandError, run_errand
from engine.fork_server import ForkServer, ForkServerError
from engine.outlet import count_lost_lines
from engine.places import PlaceError, make_directories, make_run_directory, remove_run_directory
from engine.plan import Plan
from engine.ports import PortError, reserve_ports
from engine.process import HALTED, run_member
from engine.roles import MATCHER, SUPERVISOR, Member, Preload, Role, RoleTable
from engine.running import leave_config
from engine.shard.snapshot_schedule import Schedule
from engine.shared import create_shared, left_reports
from ipc.links.sockets import MAX_PATH_BYTES
from ipc.links.tls import TlsError, server_context
from ipc.memory.mapping import MappingError, check_run_directory
from ipc.memory.status import ProcessStatus, StatusReader, StatusWriter

START_S = 120.0
"""How long processes may take to be ready, compiling for the first time included; as long again
after each sign that a matcher's replay of its journal goes on."""
MOST_DEATHS = 5
"""So many times in a row a process may die before it serves; then it is given up."""
DRAIN_S = 30.0
"""How long a process may take to finish what it has, before it is killed."""
ABANDON_S = 2.0
"""How long where the product never served as a whole."""
WATCH_S = 0.5
RETURN_S = 0.01
"""How often to look whether a process that was started again serves."""
UNKNOWN = 255
"""Exit code of a process whose fork server has died: it may still be running."""

_NO_FORK_SERVER = "the fork server died: nothing could be started again"

TEMPORARY_BYTES = 40
"""Of the path of a socket of ``multiprocessing``, behind the directory for temporary files."""

Announce = Callable[[str], None]


class ServeError(RuntimeError):
    """The product cannot start or go on; the text is for its user."""


class StoppedError(RuntimeError):
    """The product was told to end before it served."""


class Supervisor:
    """One running product. Use ``start``, ``watch``, ``stop``, in this order."""

    def __init__(self, plan: Plan, announce: Announce, roles: RoleTable) -> None:
        self.plan = plan
        self.roles = roles
        self.members = roles.members(plan)
        self.stopping = False
        self._told, self._teller = os.pipe()
        os.set_blocking(self._teller, False)
        self.clean = True
        """Whether every process has ended as it should so far."""
        self._announce = announce
        self._served = False
        self._processes: dict[Member, BaseProcess] = {}
        self._returning: dict[Member, int] = {}
        """Processes started again that do not serve yet, and how often they have died so far."""
        preload = Preload(plan.config.engine.book, roles.modules, roles.warm)
        self._fork_server = ForkServer(preload, plan.run_dir / "warming")
        self._lock = -1
        self._made = False
        """Whether the run directory is this product's."""
        self._ports: list[socket.socket] = []
        self._logged: dict[int, int] = {}
        self._to_check: list[int] = []
        """Shards where what rests may stand in the way of this start's configuration."""
        self._status: StatusWriter | None = None
        self._snapshots: Schedule | None = None

    def start(self) -> None:
        """Take the data directory, make what is shared, start everything; return when ready.

        Raises ``ServeError``, and ``StoppedError`` where ``end`` was called meanwhile.
        """
        self._take_directory()
        self._take_ports()
        self._make_shared()
        self._go_on()
        self._check_changes()
        _make_temporary_place(self.plan.run_dir.parent)
        try:
            self._fork_server.start(self._announce, lambda: self.stopping)
        except ForkServerError as error:
            raise ServeError(str(error)) from None
        for role in self.roles.started():
            for member in self.members:
                if member.role == role:
                    self._go_on()
                    self._start(member)
        self._until_ready()
        self._served = True
        if self.plan.config.journal.durability != "off":
            self._snapshots = Schedule(self.plan, self._fork_server.context)

    def _go_on(self) -> None:
        if self.stopping:
            raise StoppedError

    def end(self, *_: object) -> None:
        """Have ``start`` or ``watch`` return soon; a signal's handler may call it."""
        self.stopping = True
        with contextlib.suppress(BlockingIOError):  # full of wakes already
            os.write(self._teller, b"\0")

    def watch(self) -> None:
        """Keep every process running until ``stopping``, or until a process that began this one
        as its child has ended; restart what dies.

        A matcher that can keep nothing (exit code ``HALTED``) is not restarted; the others go on.
        Raises ``ServeError`` where a process dies again and again before it serves.
        """
        parent = multiprocessing.parent_process()
        lifeline = [] if parent is None else [parent.sentinel]
        while not self.stopping:
            sentinels = [process.sentinel for process in self._processes.values()]
            timeout_s = RETURN_S if self._returning else WATCH_S
            ended = wait([*sentinels, *lifeline, self._told], timeout_s)
            if any(end in lifeline for end in ended):
                return  # who started this product for itself is gone
            if self._fork_server.died():
                raise ServeError(_NO_FORK_SERVER)
            for member, process in list(self._processes.items()):
                if not self.stopping and process.exitcode is not None:
                    self._replace(member, process.exitcode)
            self._welcome()
            self._take_snapshots()

    def _replace(self, member: Member, exit_code: int) -> None:
        """Start a process that died again, or give it up."""
        name = member.name
        if exit_code == UNKNOWN and not has_ended(self._processes[member].pid or 0):
            raise ServeError(_NO_FORK_SERVER)
        self._processes.pop(member).close()
        deaths = self._returning.pop(member, 0) + 1
        if deaths > MOST_DEATHS and not member.role.halts:
            raise ServeError(f"{name} died {deaths} times in a row (exit code {exit_code})")
        if exit_code == HALTED or deaths > MOST_DEATHS:
            self.clean = False
            self._slot(member).halt()
            self._announce(
                f"{name} has halted (exit code {exit_code}): "
                f"{member.role.halts or 'it is missing'} until the product is started again; "
                "its error is above"
            )
            return
        self._announce(f"{name} died (exit code {exit_code}); restarting it")
        self._count("restarts")
        self._slot(member).forget()
        self._start(member)
        self._returning[member] = deaths

    def _welcome(self) -> None:
        """Say which processes serve again."""
        if not self._returning:
            return
        processes = StatusReader(self.plan.status_path).processes()
        for member, process in zip(self.members, processes, strict=True):
            if process.state == "ready" and self._returning.pop(member, None) is not None:
                self._announce_replay(process)
                self._announce(f"{member.name} is back")

    def _take_snapshots(self) -> None:
        """Have the snapshots taken that are due."""
        if self._snapshots is None:
            return
        processes = StatusReader(self.plan.status_path).processes()
        sequences = {p.number: p.counters["commands"] for p in processes if p.role == MATCHER.name}
        self._snapshots.step(sequences, self._note_snapshot)

    def _note_snapshot(self, shard: int, taken: bool) -> None:
        self._count("snapshots" if taken else "snapshot_errors")
        if not taken:
            self._announce(f"the snapshot of shard {shard} failed; its error is above")

    def _announce_replay(self, process: ProcessStatus) -> None:
        replayed = process.counters.get("replayed", 0)
        if replayed:
            self._announce(f"matcher {process.number} replayed {replayed} commands of its journal")

    def stop(self) -> None:
        """Drain, what faces clients first and what reads last; leave nothing behind."""
        if self._lock < 0:
            return  # the directory is another's
        if self._status is not None:
            self._status.drain()
        if self._snapshots is not None:
            self._snapshots.stop()
        for role in self.roles.stopped():
            self._stop_all(role)
        self._fork_server.stop()
        if self._status is not None:
            self._status.stop()
        if self._made:
            remove_run_directory(self.plan)
            self.plan.config_path.unlink(missing_ok=True)
        for port in self._ports:
            port.close()
        for address in self.plan.addresses():
            if address.path:
                Path(address.path).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = -1

    def _take_directory(self) -> None:
        plan = self.plan
        try:
            make_directories(plan)
            self._lock = os.open(plan.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PlaceError as error:
            raise ServeError(str(error)) from None
        except OSError as error:
            raise ServeError(
                f"data directory {plan.data_dir}: {plan.lock_path}: {error.strerror}"
            ) from None
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

    def _check_changes(self) -> None:
        """Refuse a configuration that some shard cannot go on under, before any is changed."""
        for shard in self._to_check:
            arguments = self.plan, shard, self._logged.get(shard, 0)
            try:
                why = run_errand("engine.reconfiguration:obstacle_of", arguments, self._told)
            except ErrandError as died:
                raise ServeError(f"shard {shard}: {died}") from None
            self._go_on()
            if why:
                raise ServeError(why)

    def _take_ports(self) -> None:
        """Refuse an address in use or a wrong key; learn the ports where any will do."""
        tls = self.plan.config.tls
        try:
            server_context(tls.certificate, tls.key)
            config, self._ports = reserve_ports(self.plan.config)
        except (TlsError, PortError) as error:
            raise ServeError(str(error)) from None
        self.plan = self.plan.with_config(config)

    def _make_shared(self) -> None:
        """Make every mapping anew; what a killed product left is replaced.

        Trades that its rings still held are made again from the journal; its last reports stay.
        """
        try:
            check_run_directory(self.plan.run_dir)
            logged = self._logged = self._last_logged()
            self._refuse_losses()
            plan = self.plan
            left = left_reports(plan)
            self._made = True
            note = make_run_directory(plan)
            if note:
                self._announce(note)
            create_shared(plan, self.members, logged, left)
            leave_config(plan)
        except (MappingError, PlaceError, OSError) as error:
            raise ServeError(str(error)) from None
        self._status = StatusWriter(plan.status_path, SUPERVISOR.name, 0)
        self._status.start(os.getpid(), time.time_ns())
        count_lost_lines(lambda: self._count("lost_lines"))
        self._status.ready()

    def _last_logged(self) -> dict[int, int]:
        """Return the last trade of every shard in the log, which is put right, having learned which
        number and shard each instrument has here; say what changes."""
        try:
            # The compiled code that reads log and journals would stay here for ever.
            found = run_errand("engine.reconfiguration:start_of", (self.plan,), self._told)
        except ErrandError as died:
            raise ServeError(f"trade log: {died}") from None
        self._go_on()
        config, changes, self._to_check, logged, notes, error = found
        if error:
            raise ServeError(error)
        self.plan = self.plan.with_config(config)
        for note in [*notes, *changes]:
            self._announce(note)
        return dict(logged)

    def _refuse_losses(self) -> None:
        """Raise where a history knows commands that a journal has lost: their ids are taken."""
        config = self.plan.config
        if not (config.history.sqlite or config.database.enabled or config.mongodb.enabled):
            return
        try:
            problem = run_errand("engine.history.loss:history_start", (self.plan,), self._told)
        except ErrandError as died:
            raise ServeError(f"history: {died}") from None
        self._go_on()
        if problem:
            raise ServeError(problem)

    def _count(self, name: str) -> None:
        if self._status is not None:
            self._status.add(name, 1)

    def _slot(self, member: Member) -> StatusWriter:
        return StatusWriter(self.plan.status_path, member.role.name, member.index)

    def _start(self, member: Member) -> None:
        process = self._fork_server.context.Process(
            target=run_member,
            args=(self.plan, member),
            name=f"shardbook-{member.role.name}-{member.index}",
        )
        process.start()
        self._processes[member] = process

    def _until_ready(self) -> None:
        """Wait until every process says that it serves."""
        reader = StatusReader(self.plan.status_path)
        deadline = time.monotonic() + START_S
        replayed = 0
        while not all(map(_serves, reader.processes())):
            found = reader.processes()
            progress = sum(process.counters.get("replayed", 0) for process in found)
            if progress > replayed:
                replayed, deadline = progress, time.monotonic() + START_S
            self._go_on()
            for member, process in self._processes.items():
                if process.exitcode is not None:
                    raise ServeError(
                        f"{member.name} did not start "
                        f"(exit code {process.exitcode}); its error is above"
                    )
            if time.monotonic() > deadline:
                raise ServeError(f"not ready after {START_S:.0f} s")
            wait([process.sentinel for process in self._processes.values()], 0.01)
        for status in reader.processes():
            self._announce_replay(status)

    def _stop_all(self, role: Role) -> None:
        """Tell every process of a role to finish, and wait; kill what does not."""
        members = [m for m in self._processes if m.role == role]
        for member in members:
            _send(self._processes[member], FINISH)
        deadline = time.monotonic() + (DRAIN_S if self._served else ABANDON_S)
        for member in members:
            process = self._processes.pop(member)
            if not _ended(process, deadline):
                if self._served:
                    self.clean = False
                    self._announce(f"{member.name} did not finish; killing it")
                _send(process, signal.SIGKILL)
                _ended(process, math.inf)
            elif process.exitcode:
                self.clean = False
                self._announce(f"{member.name} ended with exit code {process.exitcode}")
            process.close()


def _send(process: BaseProcess, number: int) -> None:
    """Send a process a signal, unless it has ended."""
    if process.pid is not None and process.exitcode in (None, UNKNOWN):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _ended(process: BaseProcess, deadline_s: float) -> bool:
    """Wait for the end of a process, also where nobody is told of it; return whether it came."""
    process.join(None if deadline_s == math.inf else max(0.0, deadline_s - time.monotonic()))
    while process.exitcode == UNKNOWN and not has_ended(process.pid or 0):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(RETURN_S)
    return process.exitcode is not None


def _serves(process: ProcessStatus) -> bool:
    """Return whether a process is ready, and reaches every shard where it is to."""
    return process.state == "ready" and not process.counters.get("shards_down")


def _make_temporary_place(directory: Path) -> None:
    """Give ``multiprocessing`` a directory for its socket where there is none, or one too long."""
    try:
        known = tempfile.gettempdir()
    except FileNotFoundError:
        known = ""
    if not 0 < len(known) <= MAX_PATH_BYTES - TEMPORARY_BYTES:
        tempfile.tempdir = str(directory)


def serve(plan: Plan, announce: Announce, roles: RoleTable) -> int:
    """Run the product, of these roles, until a signal asks it to end; return the exit code.

    What ``announce`` raises ends it. Raises ``ServeError`` and ``ConfigError``.
    """
    roles.check(plan.config)
    supervisor = Supervisor(plan, announce, roles)
    take(heeded(), supervisor.end)
    os.umask(plan.config.file_mask())
    try:
        supervisor.start()
        for line in describe(supervisor.plan, supervisor.members):
            announce(line)
        announce("ready")
        supervisor.watch()
        announce("draining")
    except StoppedError:
        announce("told to end before it was ready")
    finally:
        supervisor.stop()
    announce("stopped" if supervisor.clean else "stopped, but not cleanly: see above")
    return 0 if supervisor.clean else 1


def describe(plan: Plan, members: Sequence[Member]) -> list[str]:
    """Return the plan in lines: processes, cores, symbols, addresses, directories."""
    lines = [f"data directory {plan.data_dir}"]
    for member in members:
        core = "any core" if member.core is None else f"core {member.core}"
        symbols = ""
        if member.role == MATCHER:
            names = (instrument.symbol for instrument in plan.instruments_of(member.index))
            symbols = f": {', '.join(names) or 'no symbols'}"
        lines.append(f"{member.name} on {core}{symbols}")
    lines += [f"listening on {address}" for address in plan.addresses()]
    if plan.http_address is not None:
        scheme = "https" if plan.config.tls.certificate else "http"
        lines.append(f"listening on {scheme}://{plan.http_address.place}")
    return lines
