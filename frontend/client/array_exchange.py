"""An array of commands on its way to the engine and its answers on their way back, without I/O.

Commands get consecutive request ids, so that an answer's place follows from its request_id. They
leave in pieces, with at most ``MAX_UNDER_WAY`` of them unanswered: what they may cause to be told
stays well within what an engine lets a client leave unread (``max_unread_bytes``).
"""

import numpy as np
import numpy.typing as npt

from frontend.client.errors import ClientError, IncompleteArrayError, InvalidOrderError
from ipc.arrays import Records, copy_of
from ipc.records import COMMAND, REPORT, SEQUENCE_BITS
from ipc.vocabulary import MAX_CLIENT_ID, CommandType, ExecType, Flag, OrdStatus, Reason
from ipc.wire.client_codec import AnswerReader, Read, command_frames, report_records
from ipc.wire.messages import MassCancelReport, Message, Reject, Report

MAX_UNANSWERED = 65_536
"""Requests of one session that may wait for their answers at once."""
MAX_UNDER_WAY = 16_384
"""Of them, commands of an array."""
MAX_ARRAY = 1 << 24
"""Commands of one array."""
PIECE = 4_096
"""Commands encoded at a time."""

_FLAGS = np.zeros(256, np.uint8)
_FLAGS[CommandType.NEW] = _FLAGS[CommandType.NEW_BRACKET] = Flag.POST_ONLY
_FLAGS[CommandType.REPLACE] = Flag.REINSERT | Flag.KEEP_PRICE | Flag.KEEP_QUANTITY
_FLAGS_RULE = (
    "must be 0, or POST_ONLY on a NEW or NEW_BRACKET and REINSERT, KEEP_PRICE, KEEP_QUANTITY on a "
    "REPLACE"
)
_NUMBERS = ("order_id", "client_order_id", "price", "quantity")


def check_commands(commands: Records) -> None:
    """Refuse what cannot be written down for the engine. Raises ``InvalidOrderError``."""
    if not isinstance(commands, np.ndarray) or commands.dtype != COMMAND or commands.ndim != 1:
        raise InvalidOrderError("commands", "must be a one-dimensional array of records.COMMAND")
    if len(commands) > MAX_ARRAY:
        raise InvalidOrderError("commands", f"{len(commands)} are more than {MAX_ARRAY} at once")
    kinds = commands["command_type"]
    wrong = (kinds < min(CommandType)) | (kinds > max(CommandType))
    _refuse(wrong, "command_type", "must be NEW to NEW_BRACKET (1 to 7)")
    wrong = commands["flags"] & ~_FLAGS[kinds] != 0
    _refuse(wrong, "flags", _FLAGS_RULE)
    for name in _NUMBERS:
        _refuse(commands[name] > MAX_CLIENT_ID, name, f"must be at most {MAX_CLIENT_ID}")


def _refuse(wrong: npt.NDArray[np.bool_], field: str, text: str) -> None:
    if wrong.any():
        raise InvalidOrderError(field, f"of commands[{int(wrong.argmax())}] {text}")


class ArrayExchange:
    """One array, from its first frame to its last answer."""

    def __init__(self, commands: Records, first_request_id: int) -> None:
        self.answers = np.zeros(len(commands), REPORT)
        """The first answer to each command, in its place; ``command_type`` 0: not yet."""
        self.answered = 0
        self.sent = 0
        self.first_request_id = first_request_id
        self._commands = commands
        self._ends = np.zeros(len(commands), np.int64)

    @property
    def done(self) -> bool:
        """Whether every command is answered."""
        return self.answered == len(self.answers)

    def has(self, request_id: int) -> bool:
        """Return whether a request_id is of this array."""
        return 0 <= request_id - self.first_request_id < len(self.answers)

    def frames(self, sent_bytes: int = 0) -> bytes:
        """Return the next piece to send; nothing where all is sent, or too much is under way.

        ``sent_bytes`` were sent on the connection before it.
        """
        size = min(PIECE, len(self._commands) - self.sent)
        if not size or self.sent + size - self.answered > MAX_UNDER_WAY:
            return b""
        piece = copy_of(self._commands[self.sent : self.sent + size])
        first = self.first_request_id + self.sent
        piece["request_id"] = np.arange(first, first + size, dtype=np.uint64)
        data, ends = command_frames(piece)
        self._ends[self.sent : self.sent + size] = sent_bytes + ends
        self.sent += size
        return data

    def read(self, reader: AnswerReader, data: bytes, position: int, asked: bool) -> Read:
        """Let a reader put the answers in ``data`` into their places."""
        read = reader.read(data, position, asked, self.first_request_id, self.answers)
        self.answered += read.answered
        return read

    def take(self, message: Message) -> bool:
        """Put one answer into its place; False where it is none, or was answered before."""
        if not isinstance(message, Report | Reject | MassCancelReport):
            return False
        place = message.request_id - self.first_request_id
        if not 0 <= place < self.sent or self.answers[place]["command_type"]:
            return False
        self.answers[place] = report_records([message])[0]
        self.answered += 1
        return True

    def not_carried_out(self, shard: int, sent_bytes: int, shards: npt.NDArray[np.int64]) -> None:
        """Answer what a matcher did not take before it died: rejected as SHARD_DOWN.

        Of the connection's bytes the first ``sent_bytes`` came before that; ``shards`` has the
        shard by symbol, -1 for none.
        """
        commands, answers = self._commands[: self.sent], self.answers[: self.sent]
        owners = shards[np.minimum(commands["symbol"], len(shards) - 1)]
        by_id = (commands["symbol"] == 0) & (commands["command_type"] != CommandType.MASS_CANCEL)
        owners = np.where(by_id, commands["order_id"] >> SEQUENCE_BITS, owners)
        lost = np.flatnonzero(
            (answers["command_type"] == 0)
            & (self._ends[: self.sent] <= sent_bytes)
            & (owners == shard)
        )
        for name in ("command_type", "symbol", "order_id", "client_order_id"):
            answers[name][lost] = commands[name][lost]
        answers["request_id"][lost] = lost + self.first_request_id
        answers["exec_type"][lost] = ExecType.REJECTED
        answers["ord_status"][lost] = OrdStatus.REJECTED
        answers["reason"][lost] = Reason.SHARD_DOWN
        self.answered += len(lost)

    def incomplete(self, cause: ClientError) -> IncompleteArrayError:
        """Return the error that tells how far it came."""
        error = IncompleteArrayError(self.answers, self.answered, self.sent, cause)
        error.__cause__ = cause
        return error
