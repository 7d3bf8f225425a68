"""How a command ends: by an exit code, an error told in a line, or a signal."""

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from engine.children import heeded

USAGE, FAILURE = 2, 1
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a file may answer that standard output goes to."""


def exit_code_of(error: Exception) -> int:
    """Return the exit code of an error that is told in a line; 0: it is a defect of ours."""
    from engine.config import ConfigError
    from engine.history.destination import HistoryError
    from engine.journal.format import JournalError
    from engine.places import PlaceError
    from engine.supervisor import ServeError
    from engine.trade_log.log import TradeLogError
    from frontend.client.errors import ClientError
    from frontend.demo.load import DemoError
    from frontend.reading import ReadError, UnknownSymbolError
    from frontend.replay.flow_file import FlowFileError
    from frontend.replay.sender import ReplayError
    from ipc.links.sockets import AddressError

    if isinstance(
        error, ConfigError | AddressError | FlowFileError | ReplayError | UnknownSymbolError
    ):
        return USAGE
    if isinstance(error, DemoError | ClientError | ReadError):
        return FAILURE
    if isinstance(error, HistoryError | JournalError | PlaceError | ServeError | TradeLogError):
        return FAILURE
    if isinstance(error, FileNotFoundError):  # such as a directory for temporary files
        return FAILURE
    if isinstance(error, OSError) and (error.filename is not None or error.errno in NO_ROOM):
        return FAILURE
    return 0


class ToldToEnd(KeyboardInterrupt):
    """A signal asked this program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def unwinding() -> Iterator[None]:
    """Have a signal end the block, and others wait until that has undone what it did."""

    def unwind(number: int, _: object) -> NoReturn:
        for other in handlers:
            signal.signal(other, signal.SIG_IGN)
        raise ToldToEnd(number)

    handlers = {number: signal.getsignal(number) for number in heeded()}
    try:
        for number in handlers:
            signal.signal(number, unwind)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
