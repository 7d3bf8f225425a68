"""A matcher killed in the midst of everything, and back."""

import os
import signal
import time

from frontend.reading import ProcessView, Reader


class Kill:
    """SIGKILL of the matcher of one shard."""

    def __init__(self, reader: Reader, shard: int) -> None:
        self._reader, self._shard = reader, shard
        self.pid = self._matcher().pid
        self._start_s = time.monotonic()
        self.back_after_s: float | None = None
        """Until its successor served, None before."""
        os.kill(self.pid, signal.SIGKILL)

    def look(self) -> bool:
        """Return whether the successor serves."""
        if self.back_after_s is None:
            matcher = self._matcher()
            if matcher.pid != self.pid and matcher.state == "ready":
                self.back_after_s = time.monotonic() - self._start_s
        return self.back_after_s is not None

    def _matcher(self) -> ProcessView:
        return next(
            process
            for process in self._reader.status()
            if process.role == "matcher" and process.index == self._shard
        )
