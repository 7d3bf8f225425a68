"""Bytes to COMMAND records and REPORT records to bytes: the matcher's two edges.

msgspec's types in ``ipc.wire.messages`` define the wire; here they meet the fixed-size records that
a book takes and gives. Plain frames go through compiled code (``ipc.wire.command_decoder``,
``ipc.wire.report_encoder``), every other one, and all of them where numba is missing, through
msgspec.
"""

import secrets
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from msgspec import DecodeError, Struct, ValidationError

from ipc.arrays import Records
from ipc.client_ids import as_number, is_text, name_row
from ipc.codes import EXEC_TYPE_MASS_CANCELED, EXEC_TYPE_REJECTED, FLAG_AGGREGATE
from ipc.native.compiled import HAVE_NUMBA
from ipc.native.keyed import place_of
from ipc.native.views import address_of
from ipc.records import COMMAND, REPORT, CommandRow
from ipc.schema.declarations import FLAGS, KEEPS, RECORD_NAMES
from ipc.vocabulary import RULES, Reason
from ipc.wire.command_decoder import DONE, ODD, RECEIVED, scan_received
from ipc.wire.frames import HEADER, HEADER_BYTES, FrameTooLongError, frame
from ipc.wire.messages import (
    CLIENT_COMMANDS,
    MassCancelReport,
    Reject,
    Report,
    backend_decoder,
    tag_of,
)
from ipc.wire.report_encoder import (
    MAX_FRAME,
    REJECT_LENGTHS,
    REJECT_TEXTS,
    STREAM_TABLE,
    encode_reports,
)

FRONTEND_STREAM = 1 << 31
"""Bit of a stream: the frame is for the frontend itself, not for the client as it is.

Towards a matcher it marks a mass cancel over all shards, whose answers the frontend adds up. What
a matcher sends without it are numbered reports and nothing else.
"""
MAX_STREAM = FRONTEND_STREAM - 1


_TYPE, _FLAGS = CommandRow._fields.index("command_type"), CommandRow._fields.index("flags")
_ACCOUNT, _TIME = CommandRow._fields.index("account"), CommandRow._fields.index("timestamp_ns")


def _index(name: str) -> int:
    return CommandRow._fields.index(RECORD_NAMES.get(name, name))


_PLACES: dict[type[Struct], list[tuple[str, int | None]]] = {
    kind: [(name, None if name in FLAGS else _index(name)) for name in kind.__struct_fields__]
    for kind in get_args(CLIENT_COMMANDS)
}
"""Of each command, where its fields stand in a COMMAND; None: as bits of ``flags``."""


def _in_report(kind: type[Struct], *without: str) -> Callable[[tuple[int, ...]], Any]:
    """Return what takes the fields of a message, in order, from those of a REPORT."""
    names = [RECORD_NAMES.get(name, name) for name in kind.__struct_fields__ if name not in without]
    return itemgetter(*map((REPORT.names or ()).index, names))


_of_report, _of_mass_cancel = _in_report(Report), _in_report(MassCancelReport)
_of_reject = _in_report(Reject, "code_name", "field", "text")
_exec_type, _reason, _flags = (
    itemgetter((REPORT.names or ()).index(name)) for name in ("exec_type", "reason", "flags")
)
_account = itemgetter((REPORT.names or ()).index("account"))

_ORDER_ID = (REPORT.names or ()).index("order_id")
_CLIENT_ID = (REPORT.names or ()).index("client_order_id")
TextOf = Callable[[int, int], str | None]
"""Takes order_id and client_order_id as numbers, and returns the text that the second stands
for."""


def no_text(order_id: int, client_order_id: int) -> str | None:
    """Know none."""
    return None


_FEWEST_SLOTS = 64
PROBE_LIMIT = 32
"""Accounts that may be passed over to find one's stream; more, and the table is made anew, keyed
with another secret."""

_POSITION, _END, _BUFFER, _SIZE, _ACCOUNTS, _STREAMS = range(6)
"""The words of RECEIVED."""


def command_row(
    message: CLIENT_COMMANDS, account: int, timestamp_ns: int, aggregate: bool = False
) -> CommandRow:
    """Return the COMMAND fields of one message, in the order of the record."""
    row = [0] * len(CommandRow._fields)
    row[_TYPE], row[_ACCOUNT], row[_TIME] = tag_of(type(message)), account, timestamp_ns
    flags = FLAG_AGGREGATE if aggregate else 0
    for name, place in _PLACES[type(message)]:
        value = getattr(message, name)
        if value is None:
            flags |= KEEPS[name]
        elif place is None:
            flags |= FLAGS[name] if value else 0
        else:
            row[place] = value if type(value) is int else as_number(value)
    row[_FLAGS] = int(flags)
    return CommandRow(*row)


def command_array(rows: Iterable[CommandRow]) -> Records:
    """Return COMMAND records of rows."""
    return np.array(list(rows), COMMAND)


class CommandDecoder:
    """One connection's bytes, as commands of the accounts that have been opened on it."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        record = np.zeros(1, RECEIVED)
        self._address = address_of(record)
        self._words = record.view(np.uint64).data
        self._take_accounts(np.zeros(64, np.uint64))
        self._take_buffer(np.zeros(0, np.uint8))

    @property
    def pending_bytes(self) -> int:
        """Bytes received and not read yet."""
        return self._words[_END] - self._words[_POSITION]

    def open_stream(self, stream: int, account: int) -> None:
        """Take frames of ``stream`` as the account's from now on."""
        if stream >= len(self._accounts):
            grown = np.zeros(max(stream + 1, 2 * len(self._accounts)), np.uint64)
            grown[: len(self._accounts)] = self._accounts
            self._take_accounts(grown)
        self._accounts[stream] = account

    def account_of(self, stream: int) -> int:
        """Return the account of a stream, 0 where it is not open."""
        return int(self._accounts[stream]) if stream < len(self._accounts) else 0

    def room(self, count: int) -> memoryview:
        """Return where the next ``count`` bytes may be put, for ``received`` to follow."""
        words = self._words
        end = words[_END]
        if words[_SIZE] - end < count:
            pending = end - words[_POSITION]
            former = bytes(self._bytes[words[_POSITION] : end])
            if words[_SIZE] < pending + count:
                self._take_buffer(np.empty(1 << (pending + count).bit_length(), np.uint8))
            self._bytes[:pending] = former
            words[_POSITION], words[_END] = 0, pending
            end = pending
        return self._bytes[end : end + count]

    def received(self, count: int) -> None:
        """Take the first ``count`` bytes of what was put into ``room``."""
        self._words[_END] += count

    def feed(self, data: bytes) -> None:
        """Take bytes that lie elsewhere."""
        self.room(len(data))[:] = data
        self.received(len(data))

    def read(
        self, commands: Records, count: int, timestamp_ns: int
    ) -> tuple[int, tuple[int, bytes] | None]:
        """Fill ``commands`` from ``count`` on; return how many there are then, and what stopped it.

        That is a frame which is no command of an open stream, ``(stream, body)``; or None: the
        bytes are used up, or ``commands`` has room for less than the two that one with a text
        takes, its NAME first. Raises ``FrameTooLongError``.
        """
        words = self._words
        while True:
            if HAVE_NUMBA:
                found = scan_received(self._address, commands, count, timestamp_ns)
                count, why = found >> 2, found & 3
                if why != ODD:
                    if words[_POSITION] == words[_END]:
                        words[_POSITION] = words[_END] = 0
                    elif why == DONE:
                        self._check_length()
                    return count, None
            elif count >= len(commands):
                return count, None
            odd = self._next()
            if odd is None:
                return count, None
            rows = self._rows(*odd, timestamp_ns)
            if not rows:
                return count, odd
            if count + len(rows) > len(commands):
                self._words[_POSITION] -= HEADER_BYTES + len(odd[1])
                return count, None
            for row in rows:
                commands[count] = row
                count += 1

    def _take_accounts(self, accounts: npt.NDArray[np.uint64]) -> None:
        self._accounts = accounts
        self._words[_ACCOUNTS], self._words[_STREAMS] = address_of(accounts), len(accounts)

    def _take_buffer(self, buffer: npt.NDArray[np.uint8]) -> None:
        self._buffer, self._bytes = buffer, buffer.data
        self._words[_BUFFER], self._words[_SIZE] = address_of(buffer), len(buffer)

    def _check_length(self) -> None:
        """Refuse a header that announces more than a body may have."""
        if self.pending_bytes >= HEADER_BYTES:
            length, _ = HEADER.unpack_from(self._bytes, self._words[_POSITION])
            if length > self._max_body:
                raise FrameTooLongError(length, self._max_body)

    def _next(self) -> tuple[int, bytes] | None:
        """Take the next frame, if it is whole."""
        self._check_length()
        if self.pending_bytes < HEADER_BYTES:
            return None
        position = self._words[_POSITION]
        length, stream = HEADER.unpack_from(self._bytes, position)
        start = position + HEADER_BYTES
        if start + length > self._words[_END]:
            return None
        self._words[_POSITION] = start + length
        return stream, bytes(self._bytes[start : start + length])

    def _rows(self, stream: int, body: bytes, timestamp_ns: int) -> list[CommandRow]:
        """Decode one body with msgspec; nothing where it is no command of an open stream."""
        account = self.account_of(stream & MAX_STREAM)
        try:
            message = backend_decoder.decode(body)
        except (ValidationError, DecodeError, UnicodeDecodeError):
            return []
        if not account or not isinstance(message, CLIENT_COMMANDS):
            return []
        row = command_row(message, account, timestamp_ns, bool(stream & FRONTEND_STREAM))
        text = getattr(message, "client_order_id", 0)
        return [name_row(text, account, timestamp_ns), row] if isinstance(text, str) else [row]


class ReportEncoder:
    """Reports to frames, for the accounts that have been opened on one connection."""

    def __init__(self) -> None:
        self._streams: dict[int, int] = {}
        self.table = np.zeros(1, STREAM_TABLE)
        """By which compiled code finds the accounts' streams."""
        self.address = address_of(self.table)
        self._make_table(_FEWEST_SLOTS)

    def open_stream(self, stream: int, account: int) -> None:
        """Send the account's reports as ``stream`` from now on."""
        self._streams[account] = stream
        passed = self._place(account, stream)
        while passed > PROBE_LIMIT or 4 * self._used > len(self._keys):
            self._make_table(max(_FEWEST_SLOTS, 1 << (8 * len(self._streams) - 1).bit_length()))
            passed = max(self._place(*known) for known in self._streams.items())

    def close_stream(self, account: int) -> None:
        """Send the account's reports no more."""
        if self._streams.pop(account, None) is not None:
            self._place(account, 0)

    def encode(self, reports: Records, text_of: TextOf = no_text) -> bytes | memoryview:
        """Return the frames of the reports whose account has a stream here, in order.

        ``text_of`` tells what the client_order_id of a REPORT's fields stands for, where that is a
        text.
        """
        if not HAVE_NUMBA or is_text(int(reports["client_order_id"].max(initial=0))):
            return self._encode_plain(reports, text_of)
        out = np.empty(len(reports) * MAX_FRAME, np.uint8)
        table = (np.uint64(self._factor), self._keys, self._values)
        size = encode_reports(reports, *table, REJECT_TEXTS, REJECT_LENGTHS, out)
        # Much is given away as it is; a little does not keep all that room from others.
        return out.data[:size] if 2 * size > len(out) else out[:size].tobytes()

    def _make_table(self, slots: int) -> None:
        self._keys = np.zeros(slots, np.uint64)
        self._values = np.zeros(slots, np.uint64)
        self._used = 0
        self._factor = secrets.randbits(64) | 1
        self.table[0] = (address_of(self._keys), address_of(self._values), slots, self._factor)

    def _place(self, account: int, stream: int) -> int:
        """Put an account into the open-addressed table; return how many it passes over there.

        The table is at most a quarter full. Stream 0 stands for none: a closed one stays until the
        table is made anew.
        """
        mask = len(self._keys) - 1
        home = slot = place_of(account, self._factor, len(self._keys))
        while self._keys[slot] not in (0, account):
            slot = (slot + 1) & mask
        self._used += int(self._keys[slot] == 0)
        self._keys[slot] = account
        self._values[slot] = stream
        return (slot - home) & mask

    def _encode_plain(self, reports: Records, text_of: TextOf = no_text) -> bytes:
        out = bytearray()
        for row in reports.tolist():
            stream = self._streams.get(_account(row))
            if stream is not None:
                out += _report_frame(_with_text(row, text_of), stream)
        return bytes(out)


def _with_text(row: tuple[Any, ...], text_of: TextOf) -> tuple[Any, ...]:
    """Return a REPORT's fields with the text, where its client_order_id stands for one."""
    number = row[_CLIENT_ID]
    if not is_text(number):
        return row
    text = text_of(row[_ORDER_ID], number)
    return (*row[:_CLIENT_ID], text or number, *row[_CLIENT_ID + 1 :])


def _report_frame(row: tuple[int, ...], stream: int) -> bytes:
    """Encode one REPORT row, fields in the record's order."""
    if _exec_type(row) == EXEC_TYPE_REJECTED:
        code = Reason(_reason(row))
        fields = list(_of_reject(row))
        place = Reject.__struct_fields__.index("code") + 1
        fields[place:place] = code.name, *RULES[code]
        return frame(Reject(*fields), stream)
    if _exec_type(row) == EXEC_TYPE_MASS_CANCELED:
        if _flags(row) & FLAG_AGGREGATE:
            stream |= FRONTEND_STREAM
        return frame(MassCancelReport(*_of_mass_cancel(row)), stream)
    return frame(Report(*_of_report(row)), stream)
