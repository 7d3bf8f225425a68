"""What must hold of the codec for any bytes: compiled code and msgspec see the same in them.

Each check takes a byte stream as a socket would give it. The property tests and the corpus go
through them compiled; ``bench.fuzz_codec`` goes through them as plain Python, guided by coverage.
"""

from collections.abc import Iterator

import msgspec
import numpy as np

from frontend.gateway.frame_sorter import (
    DONE,
    FULL,
    ODD,
    TOO_LONG,
    StreamSorter,
    SymbolSorter,
    count_answers,
)
from ipc.client_ids import name_row
from ipc.records import COMMAND, MAX_SHARDS, REPORT, SEQUENCE_BITS
from ipc.vocabulary import ExecType
from ipc.wire import report_decoder
from ipc.wire.client_codec import AnswerReader, report_records
from ipc.wire.frames import HEADER, HEADER_BYTES, FrameTooLongError
from ipc.wire.matcher_codec import MAX_STREAM, CommandDecoder, command_row
from ipc.wire.messages import (
    CLIENT_COMMANDS,
    CLIENT_QUERIES,
    Report,
    backend_decoder,
    client_decoder,
    server_decoder,
)

MAX_BODY = 1024
STREAM, ACCOUNT, TIME_NS = 3, 0xFEED_F00D_DEAD_BEEF, 5
SHARDS = {1: 0, 2: 1, 3: 0, 204: 1, 300: 2}
"""By symbol. 204 is also the byte that a number above 127 begins with."""
QUERY_LINK = 3
WAITING, FIRST = 4, 2
"""An array of so many commands is being answered, from this request_id on."""

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def frames_of(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield position, stream and body of the whole frames, up to one that is too long."""
    position = 0
    while len(data) - position >= HEADER_BYTES:
        length, stream = HEADER.unpack_from(data, position)
        stop = position + HEADER_BYTES + length
        if length > MAX_BODY or stop > len(data):
            return
        yield position, stream, data[position + HEADER_BYTES : stop]
        position = stop


def ends_too_long(data: bytes) -> bool:
    """Return whether the frames end at a header that announces more than a body may have."""
    rest = 0
    for position, _, body in frames_of(data):
        rest = position + HEADER_BYTES + len(body)
    return len(data) - rest >= HEADER_BYTES and HEADER.unpack_from(data, rest)[0] > MAX_BODY


def check_commands(data: bytes) -> None:
    """A matcher reads the same commands as msgspec does, and hands out all other frames."""
    decoder, commands = CommandDecoder(MAX_BODY), np.zeros(3, COMMAND)
    decoder.open_stream(STREAM, ACCOUNT)
    decoder.feed(data)
    found: list[object] = []
    too_long = False
    try:
        while True:
            count, odd = decoder.read(commands, 0, TIME_NS)
            found += commands[:count].tolist()
            if odd is not None:
                found.append(odd)
            elif count + 1 < len(commands):
                break
    except FrameTooLongError:
        too_long = True
    wanted = [one for _, stream, body in frames_of(data) for one in _commands(stream, body)]
    assert too_long == ends_too_long(data)
    # What is read of the last batch is not told where the next header is too long.
    assert found == wanted[: len(found)]
    assert too_long or len(found) == len(wanted)


def _commands(stream: int, body: bytes) -> list[object]:
    try:
        message = backend_decoder.decode(body)
    except _UNREADABLE:
        return [(stream, body)]
    if not isinstance(message, CLIENT_COMMANDS) or stream & MAX_STREAM != STREAM:
        return [(stream, body)]
    row = command_row(message, ACCOUNT, TIME_NS, bool(stream & ~MAX_STREAM))
    text = getattr(message, "client_order_id", 0)
    return [name_row(text, ACCOUNT, TIME_NS), row] if isinstance(text, str) else [row]


def check_answers(data: bytes, asked: bool = False) -> None:
    """A client reads the same answers and reports in bulk as msgspec does, or leaves them to it."""
    reader, position = AnswerReader(MAX_BODY), 0
    answers, wanted = np.zeros(WAITING, REPORT), np.zeros(WAITING, REPORT)
    turns: dict[int, int] = {}
    for start, _, body in frames_of(data):
        before = answers.copy()
        read = reader.read(data[: start + HEADER_BYTES + len(body)], start, asked, FIRST, answers)
        others = reader.take_others()
        if read.why == report_decoder.ODD:
            assert read.position == start
            assert not len(others)
            assert answers.tobytes() == before.tobytes()
            continue
        position = start + HEADER_BYTES + len(body)
        assert (read.position, read.why) == (position, report_decoder.DONE)
        message = server_decoder.decode(body)
        (record,) = report_records([message])
        number = message.account_sequence
        if number:
            assert number >> SEQUENCE_BITS < MAX_SHARDS
            assert turns.get(number >> SEQUENCE_BITS, number) == number
            turns[number >> SEQUENCE_BITS] = number + 1
        place = message.request_id - FIRST
        if 0 <= place < WAITING and not wanted[place]["command_type"]:
            wanted[place] = record
            assert not len(others)
        else:
            assert isinstance(message, Report)
            assert not asked or not message.request_id or message.exec_type == ExecType.TRADE
            assert others.tobytes() == record.tobytes()
        assert answers.tobytes() == wanted.tobytes()


def check_routing(data: bytes) -> None:
    """A frontend's sorter cuts a stream as it is, and routes whatever msgspec reads rightly."""
    sorter = SymbolSorter(SHARDS, QUERY_LINK, MAX_BODY)
    position, why, count, pieces = sorter.sort(data, 0, STREAM)
    whole = list(frames_of(data))
    taken = [(start, body) for start, _, body in whole if start < position]
    assert len(taken) == count == sum(commands for _, _, commands in pieces)
    assert position == sum(HEADER_BYTES + len(body) for _, body in taken)
    assert why in (DONE, ODD, TOO_LONG)
    assert why != FULL
    assert (why == TOO_LONG) == (count == len(whole) and ends_too_long(data))
    assert (why == ODD) == (count < len(whole))
    links = [link for link, _, _ in pieces]
    assert links == sorted(set(links))
    rests = {link: bytes(piece) for link, piece, _ in pieces}
    for _, body in taken:
        routed = HEADER.pack(len(body), STREAM) + body
        owners = [link for link, rest in rests.items() if rest.startswith(routed)]
        link = _link(body)
        assert link in owners if link is not None else owners
        chosen = owners[0] if link is None else link
        rests[chosen] = rests[chosen][len(routed) :]
    if why == ODD:
        assert not _is_plain(whole[count][2])
    for _, number, body in whole:
        _check_few_commands(sorter, HEADER.pack(len(body), number) + body)
    _check_few_commands(sorter, data)


def _check_few_commands(sorter: SymbolSorter, data: bytes) -> None:
    """What is sorted without compiled code is sorted as with it."""
    few = bytearray(data)
    link, commands = sorter.sort_few(memoryview(few), STREAM)
    if link >= 0:
        wanted = (len(data), DONE, commands, [(link, bytes(few), commands)])
        assert sorter.sort(data, 0, STREAM) == wanted


def _link(body: bytes) -> int | None:
    try:
        message = client_decoder.decode(body)
    except _UNREADABLE:
        return None
    if isinstance(message, CLIENT_QUERIES):
        return QUERY_LINK
    assert isinstance(message, CLIENT_COMMANDS)
    return SHARDS[message.symbol]


def _is_plain(body: bytes) -> bool:
    """Return whether a frame must be routed without being decoded."""
    try:
        message = client_decoder.decode(body)
    except _UNREADABLE:
        return False
    signed = body[2] & 0xFC == 0xD0 if len(body) > 2 else False
    short = body[0] & 0xF0 == 0x90 and body[1] < 0x80
    if not short or signed:
        return False
    return isinstance(message, CLIENT_QUERIES) or (
        isinstance(message, CLIENT_COMMANDS) and message.symbol in SHARDS
    )


def check_delivery(data: bytes) -> None:
    """A frontend's sorter gives each session its own frames, in order, and counts the answers.

    What comes from a matcher is well formed: frames that no matcher sends are left out.
    """
    stream, wanted, counts = bytearray(), {}, {}
    for _, some, body in frames_of(data):
        number = some % 5
        try:
            count = count_answers(body)
        except _UNREADABLE:
            continue
        framed = HEADER.pack(len(body), number) + body
        stream += framed
        wanted[number] = wanted.get(number, b"") + framed
        counts[number] = counts.get(number, 0) + count
    sorter = StreamSorter()
    position, pieces = sorter.sort(bytes(stream) + data[:7])
    assert position == len(stream)
    assert {number: piece for number, piece, _ in pieces} == wanted
    assert [number for number, _, _ in pieces] == list(wanted)
    for _, number, body in frames_of(bytes(stream)):
        _check_few_answers(sorter, HEADER.pack(len(body), number) + body)
    _check_few_answers(sorter, bytes(stream))


def _check_few_answers(sorter: StreamSorter, data: bytes) -> None:
    """What is sorted without compiled code is sorted as with it."""
    number, answers = sorter.sort_few(data)
    if number >= 0:
        assert sorter.sort(data) == (len(data), [(number, data, answers)])


CHECKS = {
    "commands": check_commands,
    "answers": check_answers,
    "routing": check_routing,
    "delivery": check_delivery,
}
