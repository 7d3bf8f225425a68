"""Closing what a matcher has written to its end, beside the matcher's work.

A closed segment goes to the disk and out of the kernel's memory, which serves the next ones then:
without that every page of a journal is one that nobody used for long, and on virtual machines such
pages are dear. It is read again from the disk, by a snapshot or a start.
"""

import contextlib
import os
import queue
import threading

from engine.storage import Storage

MOST_WAITING = 4
"""Files that wait to be closed before whoever brings the next one has to wait as well."""


class SegmentCloser:
    """Syncs, releases and closes files, one after the other."""

    def __init__(self, storage: Storage, core: int | None, *, background: bool = True) -> None:
        """Do so on ``core``, if one is given; without ``background`` at once."""
        self.failure: OSError | None = None
        """Why a file is not on the disk, if one is not."""
        self._storage = storage
        self._core = core
        self._waiting: queue.Queue[int | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        if background:
            self._thread = threading.Thread(target=self._run, name="closer", daemon=True)
            self._thread.start()

    def close(self, descriptor: int) -> None:
        """Have a file closed once it is on the disk."""
        if self._thread is None:
            self._close(descriptor)
        else:
            self._waiting.put(descriptor)

    def finish(self) -> None:
        """Return when all that was brought is closed; nothing may be brought any more."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        if self._core is not None:
            with contextlib.suppress(OSError):  # that core is not to be had: any will do
                os.sched_setaffinity(0, {self._core})
        while (descriptor := self._waiting.get()) is not None:
            self._close(descriptor)

    def _close(self, descriptor: int) -> None:
        try:
            self._storage.sync(descriptor)
            self._storage.let_go(descriptor)
        except OSError as error:
            self.failure = error
        finally:
            self._storage.close(descriptor)
