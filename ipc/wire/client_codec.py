"""COMMAND records to bytes and bytes to REPORT records: the client's two edges.

msgspec's types in ``ipc.wire.messages`` define the wire. Arrays of commands and plain answers go
through compiled code (``ipc.wire.command_encoder``, ``ipc.wire.report_decoder``), every other
frame, and all of them where numba is missing, through msgspec.
"""

import functools
from typing import Any, NamedTuple, get_args

import numpy as np

from ipc.arrays import Integers, Records, copy_of
from ipc.client_ids import as_number
from ipc.native.compiled import HAVE_NUMBA
from ipc.records import COMMAND, MAX_SHARDS, REPORT, CommandRow
from ipc.schema.declarations import FLAGS, KEEPS, RECORD_NAMES
from ipc.vocabulary import CommandType, ExecType, OrdStatus
from ipc.wire.command_encoder import MAX_FRAME, encode_commands
from ipc.wire.frames import frame
from ipc.wire.messages import (
    CLIENT_COMMANDS,
    MassCancelReport,
    Reject,
    Report,
    tag_of,
)
from ipc.wire.report_decoder import DONE, FULL, ODD, read_answers

__all__ = [
    "DONE",
    "FULL",
    "ODD",
    "AnswerReader",
    "Read",
    "command_frames",
    "command_message",
    "report_messages",
    "report_records",
    "warm",
    "warmed",
]

Answered = Report | Reject | MassCancelReport
"""What can be told as a REPORT."""

OTHERS = 8_192
"""Reports that ``AnswerReader`` reads at a time."""

_REPORT_FIELDS = Report.__struct_fields__
_KINDS: dict[int, type[CLIENT_COMMANDS]] = {
    tag_of(kind): kind for kind in get_args(CLIENT_COMMANDS)
}
_NO_ANSWERS = np.zeros(0, REPORT)


def command_message(row: tuple[int, ...]) -> CLIENT_COMMANDS:
    """Return the message of a COMMAND, whose fields are given in the record's order."""
    command = CommandRow(*row)
    kind = _KINDS[command.command_type]
    return kind(*(_sent(command, name) for name in kind.__struct_fields__))


def _sent(command: CommandRow, name: str) -> Any:
    """Return what a client sends as a field of a COMMAND."""
    if name in FLAGS:
        return bool(command.flags & FLAGS[name])
    kept = command.command_type == CommandType.REPLACE and command.flags & KEEPS.get(name, 0)
    return None if kept else getattr(command, RECORD_NAMES.get(name, name))


def command_frames(commands: Records) -> tuple[bytes, Integers]:
    """Return the frames of COMMAND records, in order, and where in the bytes each one ends.

    Each must be of a type that there is; account and time stay behind.
    """
    ends = np.zeros(len(commands), np.int64)
    if HAVE_NUMBA:
        commands = np.require(commands, requirements=["C", "W"])  # numba compiles anew for others
        out = np.empty(len(commands) * MAX_FRAME, np.uint8)
        size = encode_commands(commands, out, ends)
        return out[:size].tobytes(), ends
    frames = [frame(command_message(row)) for row in commands.tolist()]
    np.cumsum([len(data) for data in frames], out=ends)
    return b"".join(frames), ends


def report_records(messages: list[Answered]) -> Records:
    """Return messages as REPORT records without account; texts as the numbers that they are
    inside."""
    records = np.zeros(len(messages), REPORT)
    for place, message in enumerate(messages):
        fields = _report_fields(message)
        for name, value in fields.items():
            records[name][place] = as_number(value)
    return records


def report_messages(reports: Records) -> list[Report]:
    """Return REPORT records that are neither rejects nor mass cancels as messages."""
    return [Report(*row) for row in reports[list(_REPORT_FIELDS)].tolist()]


def _report_fields(message: Answered) -> dict[str, int]:
    said = {
        RECORD_NAMES.get(name, name): getattr(message, name)
        for name in message.__struct_fields__
        if name not in ("code_name", "field", "text")
    }
    if isinstance(message, Reject):
        head = {"exec_type": ExecType.REJECTED, "ord_status": OrdStatus.REJECTED}
        return head | said | {"answers": 1}
    if isinstance(message, MassCancelReport):
        head = {"exec_type": ExecType.MASS_CANCELED, "command_type": CommandType.MASS_CANCEL}
        return head | said | {"answers": 1}
    if not isinstance(message, Report):
        raise TypeError(f"a {type(message).__name__} is no report")
    return said


class Read(NamedTuple):
    """What ``AnswerReader.read`` did: where it stopped, why, and how many answers it placed."""

    position: int
    why: int
    answered: int


class AnswerReader:
    """Reads frames in bulk; see ``ipc.wire.report_decoder.read_answers``.

    Where numba is missing every frame is ODD.
    """

    def __init__(self, max_body: int) -> None:
        self.wanted = np.zeros(MAX_SHARDS, np.uint64)
        """The next account_sequence by shard, 0 where any will do."""
        self._max_body = max_body
        self._others = np.zeros(OTHERS if HAVE_NUMBA else 0, REPORT)
        self._count = 0

    def read(
        self,
        data: bytes,
        position: int,
        asked: bool,
        first_request_id: int = 0,
        answers: Records = _NO_ANSWERS,
    ) -> Read:
        """Read whole frames; ``take_others`` has the reports that are no answers then."""
        if not HAVE_NUMBA:
            return Read(position, ODD, 0)
        position, why, answered, self._count = read_answers(
            np.frombuffer(data, np.uint8),
            position,
            self._max_body,
            np.uint64(first_request_id),
            answers,
            self._others,
            self._count,
            asked,
            self.wanted,
        )
        return Read(position, why, answered)

    def take_others(self) -> Records:
        """Return the reports since the last call that answer nothing here, oldest first."""
        taken = copy_of(self._others[: self._count])
        self._count = 0
        return taken


@functools.cache
def warm() -> None:
    """Compile or load what writes and reads arrays; the first time on a machine takes seconds."""
    if HAVE_NUMBA:
        command = np.zeros(1, COMMAND)
        command["command_type"] = CommandType.MASS_CANCEL
        command_frames(command)
        data = frame(MassCancelReport(0, 1, 0, 0, 0, 0))
        AnswerReader(len(data)).read(data, 0, False, 1, np.zeros(1, REPORT))


def warmed() -> bool:
    """Return whether that is done; where it is not, reading or writing an array may compile."""
    return not HAVE_NUMBA or warm.cache_info().currsize > 0
