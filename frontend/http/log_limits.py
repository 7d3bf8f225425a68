"""What a worker's log takes of lines that anybody can cause: few, and of strangers no traceback."""

import logging

LINES_A_MINUTE = 20
"""Of one logger."""


class LogLimit(logging.Filter):
    """Lets so many lines of a logger pass in a minute; the last of them says so."""

    def __init__(self, traces: bool) -> None:
        """``traces``: with their tracebacks."""
        super().__init__()
        self._traces = traces
        self._minute = 0
        self._lines = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written."""
        minute = int(record.created) // 60
        if minute != self._minute:
            self._minute, self._lines = minute, 0
        self._lines += 1
        if not self._traces:
            record.exc_info = record.exc_text = record.stack_info = None
        if self._lines == LINES_A_MINUTE:
            record.msg = f"{record.getMessage()} (what follows in this minute is left out)"
            record.args = None
        return self._lines <= LINES_A_MINUTE


def limit_logs() -> None:
    """Bound the log of this process."""
    logging.getLogger("uvicorn.error").addFilter(LogLimit(traces=False))
    for name in ("asyncio", "shardbook.http"):
        logging.getLogger(name).addFilter(LogLimit(traces=True))
