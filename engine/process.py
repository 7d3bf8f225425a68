"""The life of one process: pinned, stopped by signal, never outliving its parent.

The supervisor starts every process through ``run_member``; what the process does is the function
that its role's row names, called with a ``Wakeup``.
"""

import contextlib
import importlib
import logging
import os
import selectors
import signal
import socket
import sys
import time
from multiprocessing import parent_process
from pathlib import Path
from typing import NoReturn

from engine.children import ENDING, FINISH, take
from engine.outlet import count_lost_lines, open_outlets
from engine.plan import Plan
from engine.roles import GatewayNumber, Member
from ipc.memory.status import StatusWriter

HALTED = 3
"""Exit code of a process that can keep nothing: starting it again would not help."""
_NOT_OURS = object()


class Wakeup:
    """What a process waits on beside its own sockets: ``FINISH``, its parent, a doorbell.

    ``reader``: which of the gating readers of trade rings it is, if any, and the doorbell is for.
    ``gateway``: which of the gateways it is, if any.
    ``orphaned``: its parent has ended, and whoever is started next goes on with what is left.
    """

    def __init__(
        self,
        doorbell: Path | None = None,
        reader: int | None = None,
        gateway: GatewayNumber | None = None,
    ) -> None:
        self.stopping = self.orphaned = False
        self.reader = reader
        self.gateway = gateway
        self._selector = selectors.DefaultSelector()
        self._signal_reader, self._signal_writer = socket.socketpair()
        for end in (self._signal_reader, self._signal_writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._signal_writer.fileno(), warn_on_full_buffer=False)
        take(ENDING, signal.SIG_IGN)  # the supervisor decides when to end
        take([FINISH], self._stop)
        self._selector.register(self._signal_reader, selectors.EVENT_READ)
        parent = parent_process()
        self.parent_fd: int | None = None if parent is None else int(parent.sentinel)
        if self.parent_fd is not None:
            self._selector.register(self.parent_fd, selectors.EVENT_READ)
        self._doorbell: socket.socket | None = None
        if doorbell is not None:
            with contextlib.suppress(FileNotFoundError):
                doorbell.unlink()
            self._doorbell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._doorbell.bind(str(doorbell))
            self._doorbell.setblocking(False)
            self._selector.register(self._doorbell, selectors.EVENT_READ)

    def fileno(self) -> int:
        """Return a descriptor that is readable when ``wait`` would return at once."""
        return self._selector.fileno()

    def watch(self, descriptor: int) -> None:
        """Also wake up while a descriptor is readable; whoever gave it empties it."""
        self._selector.register(descriptor, selectors.EVENT_READ, _NOT_OURS)

    def wait(self, timeout_s: float | None) -> None:
        """Sleep until the doorbell, the stop signal, the parent's death or the timeout."""
        for key, _ in self._selector.select(timeout_s):
            if key.fd == self.parent_fd:
                self.stopping = self.orphaned = True
                self._selector.unregister(key.fileobj)
                self.parent_fd = None
            elif key.data is not _NOT_OURS:
                _empty(key.fileobj)  # type: ignore[arg-type]

    def _stop(self, *_: object) -> None:
        self.stopping = True


def ring_doorbell(bell: socket.socket, path: Path) -> None:
    """Wake the process that waits at ``path``; a full or absent doorbell is as good as rung."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError, ConnectionRefusedError):
        bell.sendto(b"\0", str(path))


def run_member(plan: Plan, member: Member) -> NoReturn:
    """Be one process of the product, from its start to its exit."""
    os.umask(plan.config.file_mask())
    if member.core is not None:
        os.sched_setaffinity(0, {member.core})
    reader = member.reader
    doorbell = None if reader is None else plan.doorbell_path(reader)
    wakeup = Wakeup(doorbell, reader, member.gateway)
    open_outlets()
    logging.basicConfig(level=plan.config.log_level)
    status = StatusWriter(plan.status_path, member.role.name, member.index)
    status.start(os.getpid(), time.time_ns())
    count_lost_lines(lambda: status.add("lost_lines", 1))
    module, _, function = member.role.entry.partition(":")
    getattr(importlib.import_module(module), function)(plan, member.index, status, wakeup)
    status.stop()
    sys.exit(0)


def _empty(end: socket.socket) -> None:
    """Read all that has come in on a non-blocking socket."""
    with contextlib.suppress(BlockingIOError):
        while end.recv(4096):
            pass
