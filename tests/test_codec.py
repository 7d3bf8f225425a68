"""The codec: any bytes give the same commands and rejects, compiled or decoded by msgspec."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.client_ids import name_row
from ipc.native.compiled import HAVE_NUMBA
from ipc.records import COMMAND, REPORT, account_of
from ipc.vocabulary import RULES, ExecType, Flag, Reason
from ipc.wire.frames import HEADER, FrameSplitter, frame
from ipc.wire.matcher_codec import FRONTEND_STREAM, CommandDecoder, ReportEncoder, command_row
from ipc.wire.messages import (
    MAX_BODY,
    Cancel,
    MassCancel,
    MassCancelReport,
    NewOrder,
    OpenStream,
    Reduce,
    Reject,
    Replace,
    Report,
    backend_decoder,
    server_decoder,
)
from tests.books import commands_of

pytestmark = pytest.mark.skipif(not HAVE_NUMBA, reason="numba is missing: nothing is compiled")

ACCOUNT = 0xFEED_F00D_DEAD_BEEF
STREAM = 3
IDS = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1))
CODES = st.one_of(st.integers(0, 5), st.integers(0, 300))
SYMBOLS = st.one_of(st.integers(0, 5), st.integers(0, 70_000))


def wide(draw: st.DrawFn, value: int, signed: bool) -> bytes:
    """Encode an integer in one of the widths that can hold it, signed ones too where wanted.

    The compiled code leaves signed ones to msgspec, so most messages must not have any.
    """
    forms = [msgspec.msgpack.encode(value)] if value < 2**64 else []
    for lead, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
        if value < 1 << 8 * size:
            forms.append(bytes([lead]) + value.to_bytes(size, "big"))
    for lead, size in ((0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8)):
        if signed and value < 1 << (8 * size - 1):
            forms.append(bytes([lead]) + value.to_bytes(size, "big"))
    return draw(st.sampled_from(forms))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A command as any MessagePack encoder may write it, whole or with a field too many or few."""
    tag = draw(st.integers(1, 5))
    fields = {
        1: [SYMBOLS, IDS, IDS, CODES, CODES, CODES, IDS, IDS],
        2: [SYMBOLS, IDS, IDS, IDS],
        3: [SYMBOLS, IDS, IDS, IDS, IDS, IDS],
        4: [SYMBOLS, IDS, IDS, IDS, IDS],
        5: [SYMBOLS, IDS],
    }[tag]
    signed = draw(st.integers(0, 4)) == 0
    items = [wide(draw, draw(field), signed) for field in fields]
    if tag == 3:
        items[4:] = [b"\xc0" if draw(st.integers(0, 3)) == 0 else item for item in items[4:]]
    if tag in (1, 3) and draw(st.booleans()):
        items.append(draw(st.sampled_from([b"\xc2", b"\xc3", b"\x01", b"\xc0"])))
    change = draw(st.integers(0, 9))
    if change == 0:
        items.pop()
    elif change == 1:
        items.append(wide(draw, draw(IDS), signed))
    elif change == 2:
        items[draw(st.integers(0, len(items) - 1))] = draw(
            st.sampled_from([b"\xc0", b"\xa1x", b"\xff", b"\xcb" + bytes(8), b"\x90", b"\xc3"])
        )
    count = len(items) + 1
    head = draw(st.sampled_from([bytes([0x90 | count]), b"\xdc" + count.to_bytes(2, "big")]))
    body = head + bytes([tag]) + b"".join(items)
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(body) - 1))
        body = body[:place] + bytes([draw(st.integers(0, 255))]) + body[place + 1 :]
    return body


def decode(
    data: list[bytes], capacity: int = 4
) -> tuple[list[tuple[int, ...]], list[bytes], CommandDecoder]:
    """Decode with the compiled scanner, ``capacity`` commands at a time."""
    decoder, rows, refused = CommandDecoder(MAX_BODY), [], []
    decoder.open_stream(STREAM, ACCOUNT)
    commands = np.zeros(capacity, COMMAND)
    for piece in data:
        decoder.feed(piece)
        while True:
            count, odd = decoder.read(commands, 0, 5)
            rows += commands[:count].tolist()
            if odd is not None:
                refused.append(odd[1])
            elif count + 1 < capacity:
                break
    return rows, refused, decoder


@settings(max_examples=500, deadline=None)
@given(st.lists(bodies() | st.binary(max_size=30), max_size=12), st.data())
def test_scanner_equals_msgspec_for_any_bytes(some: list[bytes], data) -> None:
    frames = [(STREAM, body) for body in some]
    stream = b"".join(HEADER.pack(len(body), number) + body for number, body in frames)
    cut = data.draw(st.integers(0, len(stream)))
    rows, refused, decoder = decode([stream[:cut], stream[cut:]])
    plain_rows, plain_refused = [], []
    for _, body in frames:
        try:
            message = backend_decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            plain_refused.append(body)
            continue
        if isinstance(message, NewOrder | Cancel | Replace | Reduce | MassCancel):
            text = getattr(message, "client_order_id", 0)
            plain_rows += [name_row(text, ACCOUNT, 5)] if isinstance(text, str) else []
            plain_rows.append(command_row(message, ACCOUNT, 5))
        else:
            plain_refused.append(body)
    assert rows == plain_rows
    assert refused == plain_refused
    assert decoder.pending_bytes == 0


def test_every_message_becomes_its_command() -> None:
    messages = [
        NewOrder(1, 2, 3, 1, 2, 1, 100, 5, True),
        NewOrder(65_535, 2**63 - 1, 2**63 - 1, 2, 1, 4, 2**63 - 1, 2**63 - 1),
        Cancel(1, 2, 3, 4),
        Cancel(0, 200, 300),
        Replace(1, 2, 3, 4, 5, 6, True),
        Replace(1, 2, 3, 4, 70_000, 2**32),
        Replace(1, 2, 3, 4, None, 6),
        Replace(1, 2, 3, 4, 5, None, True),
        Replace(1, 2, 3, 4, None, None),
        Reduce(1, 2, 3, 4, 5),
        MassCancel(7, 8),
    ]
    rows, refused, _ = decode([b"".join(frame(message, STREAM) for message in messages)])
    assert rows == [command_row(message, ACCOUNT, 5) for message in messages]
    assert rows == commands_of(messages, ACCOUNT, 5).tolist()
    assert not refused


def test_mass_cancel_of_all_shards_is_marked() -> None:
    rows, refused, _ = decode([frame(MassCancel(0, 8), STREAM | FRONTEND_STREAM)])
    assert rows == [command_row(MassCancel(0, 8), ACCOUNT, 5, aggregate=True)]
    assert rows[0][4] == Flag.AGGREGATE
    assert not refused


def test_control_messages_and_unknown_streams_are_handed_out_in_order() -> None:
    order = NewOrder(1, 2, 3, 1, 2, 1, 100, 5)
    data = [frame(order, STREAM) + frame(OpenStream(9, 1), 0) + frame(order, 8)]
    rows, refused, _ = decode(data)
    assert len(rows) == 1
    assert [type(backend_decoder.decode(body)) for body in refused] == [OpenStream, NewOrder]


def reports_of(values: list[dict[str, int]]) -> np.ndarray:
    reports = np.zeros(len(values), REPORT)
    for report, fields in zip(reports, values, strict=True):
        for name, value in fields.items():
            report[name] = value
    return reports


def encode(reports: np.ndarray, accounts: dict[int, int]) -> list[tuple[int, object]]:
    encoder = ReportEncoder()
    for account, stream in accounts.items():
        encoder.open_stream(stream, account)
    frames = FrameSplitter(MAX_BODY).feed(encoder.encode(reports))
    return [(stream, server_decoder.decode(body)) for stream, body in frames]


NUMBERS = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1))
REPORT_FIELDS = {
    "exec_type": st.sampled_from([0, 4, 5, 15]),
    **{name: st.integers(0, 8) for name in ("ord_status", "command_type", "side", "order_type")},
    **{name: st.integers(0, 8) for name in ("time_in_force", "flags", "liquidity")},
    "symbol": st.integers(0, 65_535),
    "reason": st.sampled_from([int(reason) for reason in RULES]),
    "answers": st.integers(0, 1),
    "account": st.sampled_from([ACCOUNT, ACCOUNT + 16, 5]),
    **{name: NUMBERS for name in REPORT.names[11:] if name != "account"},
}


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries(REPORT_FIELDS), max_size=6))
def test_reports_are_read_back_by_msgspec(values: list[dict[str, int]]) -> None:
    reports = reports_of(values)
    found = encode(reports, {ACCOUNT: 4, ACCOUNT + 16: 2**31 - 1})
    streams = {ACCOUNT: 4, ACCOUNT + 16: 2**31 - 1}
    wanted = [
        (
            streams[fields["account"]],
            Report(*(fields[name] for name in Report.__struct_fields__)),
        )
        for fields in values
        if fields["account"] in streams
    ]
    assert found == wanted


@pytest.mark.parametrize("reason", list(RULES))
def test_rejects_carry_code_field_and_rule(reason: Reason) -> None:
    fields = {"exec_type": ExecType.REJECTED, "reason": reason, "account": ACCOUNT, "symbol": 300}
    numbers = {"request_id": 2**52, "order_id": 7, "client_order_id": 2**63, "timestamp_ns": 9}
    ((stream, answer),) = encode(
        reports_of(
            [{**fields, **numbers, "sequence": 11, "command_type": 1, "account_sequence": 2**47}]
        ),
        {ACCOUNT: 4},
    )
    rule = RULES[reason]
    assert stream == 4
    assert answer == Reject(
        1, 300, 2**52, 7, 2**63, reason, reason.name, rule.field, rule.text, 9, 11, 2**47
    )


@pytest.mark.parametrize("flags", [0, Flag.AGGREGATE])
def test_mass_cancel_answers(flags: int) -> None:
    fields = {"exec_type": ExecType.MASS_CANCELED, "quantity": 12, "account": ACCOUNT}
    ((stream, answer),) = encode(
        reports_of(
            [{**fields, "flags": flags, "request_id": 6, "symbol": 2, "account_sequence": 8}]
        ),
        {ACCOUNT: 4},
    )
    assert stream == (4 | FRONTEND_STREAM if flags else 4)
    assert answer == MassCancelReport(2, 6, 12, 0, 0, 8)


def test_many_accounts_keep_their_streams() -> None:
    accounts = {account_of(f"user {n}"): n for n in range(1, 5_000)}
    reports = reports_of([{"account": account} for account in accounts])
    assert [stream for stream, _ in encode(reports, accounts)] == list(accounts.values())


def test_a_closed_stream_gets_no_reports_until_it_is_opened_again() -> None:
    encoder = ReportEncoder()
    accounts = [account_of(f"user {n}") for n in range(40)]
    for number, account in enumerate(accounts):
        encoder.open_stream(number + 1, account)
    for account in accounts[::2]:
        encoder.close_stream(account)
    reports = reports_of([{"account": account} for account in accounts])
    assert streams_in(encoder, reports) == list(range(2, 41, 2))
    encoder.open_stream(99, accounts[0])
    assert streams_in(encoder, reports) == [99, *range(2, 41, 2)]


def test_streams_that_come_and_go_take_no_room() -> None:
    encoder = ReportEncoder()
    stays = account_of("stays")
    encoder.open_stream(1, stays)
    for number in range(2_000):
        encoder.open_stream(2, account_of(f"user {number}"))
        encoder.close_stream(account_of(f"user {number}"))
    assert encoder.table["slots"] == 64
    assert streams_in(encoder, reports_of([{"account": stays}])) == [1]


def streams_in(encoder: ReportEncoder, reports: np.ndarray) -> list[int]:
    """Return whose the frames are that reports become."""
    data = bytes(encoder.encode(reports))
    return [stream for stream, _ in FrameSplitter(MAX_BODY).feed(data)]
