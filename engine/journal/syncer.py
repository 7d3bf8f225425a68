"""Syncing a journal beside the matcher's work: group commit.

While one sync runs, what arrives is appended; the next sync serves all of that together. The
waiting happens in a thread of its own, in the kernel, and its end makes a descriptor readable.
"""

import os
import threading

from engine.journal.format import JournalError
from engine.journal.writer import JournalWriter


class Syncer:
    """Makes what a ``JournalWriter`` has appended durable, one sync at a time."""

    def __init__(self, journal: JournalWriter, *, background: bool = True) -> None:
        """Without ``background`` a sync is done at once by whoever asks for it."""
        self.durable = journal.sequence
        """The last command that is known to be on the disk."""
        self.syncs = 0
        self._journal = journal
        self._target = self.durable
        self._error: JournalError | None = None
        self._running = False
        self._closing = False
        self._wanted, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None
        if background:
            self._thread = threading.Thread(target=self._run, name="syncer", daemon=True)
            self._thread.start()
        journal.before_rotation = self.finish

    def fileno(self) -> int:
        """Return a descriptor that is readable when a sync has ended."""
        return self._event

    def start(self) -> None:
        """Begin a sync of all that was appended, unless one runs or there is nothing to do."""
        if self._running or self._journal.sequence == self.durable:
            return
        self._target = self._journal.sequence
        self.syncs += 1
        if self._thread is None:
            self._journal.sync()
            self.durable = self._target
        else:
            self._running = True
            self._wanted.release()

    def poll(self) -> int:
        """Return ``durable`` as of now, without waiting. Raises ``JournalError``."""
        if self._running and self._done.acquire(blocking=False):
            self._end()
        return self.durable

    def finish(self) -> None:
        """Wait for the sync that runs, if one does. Raises ``JournalError``."""
        if self._running:
            self._done.acquire()
            self._end()

    def close(self) -> None:
        """Stop the thread, after the sync that runs."""
        self._closing = True
        self._wanted.release()
        if self._thread is not None:
            self._thread.join()
        os.close(self._event)

    def _end(self) -> None:
        self._running = False
        os.eventfd_read(self._event)
        if self._error is not None:
            raise self._error
        self.durable = self._target

    def _run(self) -> None:
        while True:
            self._wanted.acquire()
            if self._closing:
                return
            try:
                self._journal.sync()
            except JournalError as error:
                self._error = error
            os.eventfd_write(self._event, 1)
            self._done.release()
