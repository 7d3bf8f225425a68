"""The client's codec: arrays of commands become msgspec's bytes, and answers records, any way."""

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.simulated_flow import SimulatedFlow
from engine.config import load_config
from ipc.native.compiled import HAVE_NUMBA
from ipc.records import COMMAND, MAX_SHARDS, REPORT, SEQUENCE_BITS, make_id
from ipc.vocabulary import LISTS, MAX_CLIENT_ID, RULES, CommandType, ExecType, Flag, Reason
from ipc.wire import client_codec
from ipc.wire.client_codec import (
    DONE,
    FULL,
    ODD,
    AnswerReader,
    command_frames,
    command_message,
    report_messages,
    report_records,
)
from ipc.wire.command_encoder import MAX_FRAME
from ipc.wire.frames import HEADER, HEADER_BYTES, FrameSplitter, FrameTooLongError, frame
from ipc.wire.matcher_codec import ReportEncoder, command_row
from ipc.wire.messages import (
    MAX_BODY,
    MAX_COMMAND_BODY,
    MassCancelReport,
    Pong,
    Reject,
    Report,
    client_decoder,
    server_decoder,
)
from tests.books import commands_of
from tests.test_codec import wide

compiled_only = pytest.mark.skipif(not HAVE_NUMBA, reason="numba is missing: nothing is compiled")

EDGES = [0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, MAX_CLIENT_ID]
NUMBERS = st.one_of(st.sampled_from(EDGES), st.integers(0, MAX_CLIENT_ID))
COMMANDS = st.fixed_dictionaries(
    {
        "command_type": st.sampled_from([int(kind) for kind in CommandType]),
        "flags": st.integers(0, 31),
        "symbol": st.one_of(st.sampled_from([0, 127, 128, 255, 256]), st.integers(0, 65_535)),
        **{name: st.integers(0, 255) for name in ("side", "order_type", "time_in_force")},
        **dict.fromkeys(("request_id", "order_id", "client_order_id"), NUMBERS),
        **dict.fromkeys(("price", "quantity"), NUMBERS),
    }
)
ACCOUNT, STREAM = 9, 1


@pytest.fixture(params=[pytest.param(True, marks=compiled_only), False], ids=["numba", "plain"])
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a test with compiled code and as where numba is missing."""
    monkeypatch.setattr(client_codec, "HAVE_NUMBA", request.param)
    return


def records(dtype: np.dtype, values: list[dict[str, int]]) -> np.ndarray:
    found = np.zeros(len(values), dtype)
    for record, fields in zip(found, values, strict=True):
        for name, value in fields.items():
            record[name] = value
    return found


@compiled_only
@settings(max_examples=300)
@given(st.lists(COMMANDS, max_size=8))
def test_commands_are_written_as_msgspec_writes_them(values: list[dict[str, int]]) -> None:
    commands = records(COMMAND, values)
    frames, ends = command_frames(commands)
    each = [frame(command_message(row)) for row in commands.tolist()]
    assert frames == b"".join(each)
    assert ends.tolist() == np.cumsum([len(data) for data in each]).tolist()


@pytest.mark.usefixtures("_either_way")
@pytest.mark.parametrize("command_type", CommandType)
def test_the_highest_values_fit_and_are_read_back(command_type: CommandType) -> None:
    command = np.zeros(1, COMMAND)
    command["command_type"], command["symbol"] = command_type, 65_535
    for field in ("request_id", "order_id", "client_order_id", "price", "quantity"):
        command[field] = MAX_CLIENT_ID
    for field in ("side", "order_type", "time_in_force"):
        command[field] = 255
    command["flags"] = Flag.POST_ONLY | Flag.REINSERT
    data, ends = command_frames(command)
    assert ends.tolist() == [len(data)]
    assert len(data) <= MAX_FRAME
    ((_, body),) = FrameSplitter(MAX_BODY).feed(data)
    found = records(COMMAND, [{}])
    found[0] = command_row(client_decoder.decode(body), ACCOUNT, 0)
    same = [name for name in COMMAND.names if found[name][0] and name not in ("flags", "account")]
    assert {"command_type", "symbol", "request_id"} <= set(same)
    assert all(found[name] == command[name] for name in same)


@pytest.mark.usefixtures("_either_way")
def test_a_simulated_flow_survives_the_wire() -> None:
    flow = SimulatedFlow(load_config().listed(), [ACCOUNT], [3])
    commands = np.concatenate([flow.chunk(500) for _ in range(6)])
    assert set(commands["command_type"].tolist()) == set(CommandType) - set(LISTS)
    data, ends = command_frames(commands)
    assert ends[-1] == len(data)
    bodies = FrameSplitter(MAX_COMMAND_BODY).feed(data)
    messages = (client_decoder.decode(body) for _, body in bodies)
    commands["timestamp_ns"] = 0
    assert commands_of(messages, ACCOUNT, 0).tobytes() == commands.tobytes()


@pytest.mark.usefixtures("_either_way")
def test_no_commands_are_no_bytes() -> None:
    data, ends = command_frames(np.empty(0, COMMAND))
    assert (data, len(ends)) == (b"", 0)


# Answers ---------------------------------------------------------------------------------------


WORDS = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1))
TEXTS = st.text(st.characters(codec="utf-8", max_codepoint=0x17F), max_size=300)
STRANGE = st.sampled_from([b"\xc0", b"\xff", b"\x80", b"\xcb" + bytes(8), b"\xc3", b"\xd9\xff"])


@st.composite
def answer_bodies(draw: st.DrawFn) -> bytes:
    """An answer as any MessagePack encoder may write it; one in two with something wrong in it."""
    kind = draw(st.sampled_from([Report, Report, Report, Reject, Reject, MassCancelReport, Pong]))
    flawed = draw(st.booleans())
    signed = flawed and draw(st.booleans())
    items = []
    for name in kind.__struct_fields__:
        most = 2**64 - 1
        if name in ("code_name", "field", "text"):
            text = msgspec.msgpack.encode(draw(TEXTS))
            bad = flawed and draw(st.integers(0, 5)) == 0
            items.append(b"\xa2\xc3\x28" if bad else text)
            continue
        if name in ("symbol", "reason", "code"):
            most = 65_535
        elif name == "request_id":
            most = 9
        elif name in REPORT.names and REPORT[name].itemsize == 1:
            most = 255
        values = st.integers(0, min(300, most)) | st.integers(0, most)
        if name == "account_sequence":
            near = [0, 1, 2, make_id(1, 1), make_id(1, 2), make_id(255, 1), make_id(256, 1)]
            values = st.sampled_from(near) | values if flawed else st.sampled_from(near[:-1])
        if flawed and most < 2**64 - 1 and draw(st.integers(0, 9)) == 0:
            values = st.just(most + 1)
        items.append(wide(draw, draw(values), signed))
    change = draw(st.integers(0, 9)) if flawed else 9
    if change == 0:
        items.pop()
    elif change == 1:
        items.append(b"\x01")
    elif change == 2:
        items[draw(st.integers(0, len(items) - 1))] = draw(STRANGE)
    elif change == 3:
        items.append(b"\x01")
        items = items[:-2]
    count = len(items) + 1
    heads = [b"\xdc" + count.to_bytes(2, "big")]
    if count < 16:
        heads.append(bytes([0x90 | count]))
    body = draw(st.sampled_from(heads)) + bytes([kind.__struct_config__.tag]) + b"".join(items)
    if flawed and draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(body) - 1))
        body = body[:place] + bytes([draw(st.integers(0, 255))]) + body[place + 1 :]
    return body


def framed(body: bytes) -> bytes:
    return HEADER.pack(len(body), STREAM) + body


def read_all(data: bytes, answers: np.ndarray, asked: bool) -> tuple[np.ndarray, dict[int, bytes]]:
    """Read as a session does; return the other reports, and what was odd by its position."""
    reader, splitter = AnswerReader(MAX_BODY), FrameSplitter(MAX_BODY)
    others, odd, position, answered = [], {}, 0, 0
    while True:
        position, why, count = reader.read(data, position, asked, 3, answers)
        answered += count
        others.append(reader.take_others())
        if why == DONE:
            break
        if why == ODD:
            body = splitter.body_at(data, position)
            if body is None:
                break
            odd[position] = body
            position += HEADER_BYTES + len(body)
    assert position == len(data)
    assert answered >= np.count_nonzero(answers["command_type"])
    return np.concatenate(others), odd


@compiled_only
@settings(max_examples=500)
@given(
    st.lists(answer_bodies(), max_size=12)
    | st.lists(answer_bodies() | st.binary(max_size=40), max_size=6),
    st.booleans(),
)
def test_answers_are_read_as_msgspec_reads_them(bodies: list[bytes], asked: bool) -> None:
    answers, wanted = np.zeros(5, REPORT), np.zeros(5, REPORT)
    others, odd = read_all(b"".join(map(framed, bodies)), answers, asked)
    wanted_others = []
    turns: dict[int, int] = {}
    start = 0
    for body in bodies:
        position, start = start, start + HEADER_BYTES + len(body)
        try:
            message = server_decoder.decode(body)
            (record,) = report_records([message])
        except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError, TypeError):
            assert position in odd  # msgspec has to say what is wrong with it, or what it is
            continue
        number = message.account_sequence
        shard = number >> SEQUENCE_BITS
        in_turn = not number or (shard < MAX_SHARDS and turns.get(shard, number) == number)
        place = message.request_id - 3
        is_answer = 0 <= place < 5 and not wanted[place]["command_type"]
        if position in odd:
            assert not in_turn or not plain(body, message, asked, is_answer)
            continue
        assert in_turn
        if number:
            turns[shard] = number + 1
        if is_answer:
            wanted[place] = record
        else:
            assert isinstance(message, Report)
            assert not asked or not message.request_id or message.exec_type == ExecType.TRADE
            wanted_others.append(record)
    assert answers.tobytes() == wanted.tobytes()
    assert others.tolist() == [record.tolist() for record in wanted_others]


def plain(body: bytes, message: object, asked: bool, is_answer: bool) -> bool:
    """Return whether the compiled reader must take what msgspec takes."""
    if any(lead in body for lead in (0xD0, 0xD1, 0xD2, 0xD3)):
        return False
    if isinstance(message, Reject):
        return is_answer and f"{message.code_name}{message.field}{message.text}".isascii()
    if isinstance(message, Report) and not is_answer:
        return not asked or not message.request_id or message.exec_type == ExecType.TRADE
    return is_answer


REPORTS = st.fixed_dictionaries(
    {
        "exec_type": st.sampled_from([int(kind) for kind in ExecType]),
        "reason": st.sampled_from([int(reason) for reason in RULES]),
        "account": st.just(ACCOUNT),
        "command_type": st.integers(1, 5),
        "symbol": st.integers(0, 65_535),
        **dict.fromkeys(REPORT.names[14:], WORDS),
    }
)


@pytest.mark.usefixtures("_either_way")
def test_what_a_matcher_writes_is_read_back() -> None:
    @given(st.lists(REPORTS, max_size=6))
    def check(values: list[dict[str, int]]) -> None:
        reports = records(REPORT, values)
        reports["request_id"] = np.arange(3, 3 + len(reports))
        reports["account_sequence"] = np.arange(len(reports)) + make_id(2, 7)
        encoder = ReportEncoder()
        encoder.open_stream(STREAM, ACCOUNT)
        answers = np.zeros(len(reports), REPORT)
        others, odd = read_all(encoder.encode(reports), answers, asked=False)
        assert not len(others)
        if client_codec.HAVE_NUMBA:
            assert not odd
        else:
            answers = report_records([server_decoder.decode(body) for body in odd.values()])
        for report, answer in zip(reports, answers, strict=True):
            kind = report["exec_type"]
            names = {"exec_type", "symbol", "request_id", "timestamp_ns", "sequence"}
            names |= {"account_sequence"}
            if kind == ExecType.REJECTED:
                names |= {"command_type", "order_id", "client_order_id", "reason"}
            elif kind == ExecType.MASS_CANCELED:
                names |= {"quantity"}
            else:
                names = set(Report.__struct_fields__)
            assert all(answer[name] == report[name] for name in names)
            rest = set(REPORT.names) - names - {"command_type", "ord_status", "answers"}
            assert kind not in (ExecType.REJECTED, ExecType.MASS_CANCELED) or answer["answers"]
            assert not any(answer[name] for name in rest)

    check()


@compiled_only
def test_a_reject_has_no_rest_of_the_report_before_it() -> None:
    whole = records(REPORT, [dict.fromkeys(set(REPORT.names) - {"account"}, 7)])
    reject = Reject(1, 2, 4, 5, 6, int(Reason.BOOK_FULL), "BOOK_FULL", "symbol", "full", 8, 9, 8)
    answers = np.zeros(2, REPORT)
    reader = AnswerReader(MAX_BODY)
    position, why, count = reader.read(frame(report_messages(whole)[0]), 0, False)
    assert (why, count, len(reader.take_others())) == (DONE, 0, 1)
    position, why, count = reader.read(frame(reject), 0, False, 3, answers)
    assert (why, count) == (DONE, 1)
    assert answers[1:].tobytes() == report_records([reject]).tobytes()
    assert position == len(frame(reject))


@compiled_only
def test_a_reader_stops_where_it_has_no_room() -> None:
    (report,) = report_messages(records(REPORT, [{"trade_id": 5}]))
    data = frame(report) * (client_codec.OTHERS + 5)
    reader = AnswerReader(MAX_BODY)
    position, why, _ = reader.read(data, 0, False)
    assert (why, len(reader.take_others())) == (FULL, client_codec.OTHERS)
    assert reader.read(data, position, False).why == DONE
    assert len(reader.take_others()) == 5


@pytest.mark.usefixtures("_either_way")
def test_a_header_beyond_the_bound_is_refused_and_a_cut_frame_waited_for() -> None:
    reader, splitter = AnswerReader(100), FrameSplitter(100)
    long = HEADER.pack(101, 0) + bytes(200)
    assert reader.read(long, 0, False) == (0, ODD, 0)
    with pytest.raises(FrameTooLongError):
        splitter.body_at(long, 0)
    cut = HEADER.pack(100, 0) + bytes(99)
    assert reader.read(cut, 0, False).position == 0
    assert splitter.body_at(cut, 0) is None
    assert splitter.body_at(cut[:7], 0) is None
    assert splitter.body_at(cut + b"\0", 0) == bytes(100)
