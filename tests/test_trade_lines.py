"""TRADE records to NDJSON and back: byte for byte what the json and decimal modules write."""

import json
from decimal import Decimal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.trade_log.lines
from engine.trade_log.lines import (
    MAX_LINE_BYTES,
    LineFormatter,
    parse_lines,
    to_records,
    trade_id_of,
    trade_ids,
)
from ipc.instruments import Instrument, Scale
from ipc.records import TRADE
from ipc.vocabulary import MAX_PRICE, MAX_QUANTITY
from tests.trades import (
    EXACT,
    INSTRUMENTS,
    ids,
    instrument,
    make_lines,
    make_trades,
    plain_decimal,
    plain_line,
    plain_lines,
)

FIELDS = [
    "trade_id",
    "symbol",
    "buy_order_id",
    "sell_order_id",
    "price",
    "quantity",
    "timestamp",
    "taker_side",
]
NARROW = instrument(1, "NARROW", "0.01", "1")
WIDE = instrument(2, "WIDE", "0.999999999999999999", "0.000000000000000001")


def words() -> st.SearchStrategy[int]:
    """Unsigned 64-bit integers, those near a power of ten as likely as all others."""
    near = st.builds(
        lambda power, step: min(max(10**power + step, 0), 2**64 - 1),
        st.integers(0, 19),
        st.integers(-2, 2),
    )
    return near | st.integers(0, 2**64 - 1)


@st.composite
def scales(draw: st.DrawFn) -> Scale:
    digits = draw(st.integers(0, 18))
    mantissa = draw(st.sampled_from([1, 5, 25, 10**digits]) | st.integers(1, 10**18 - 1))
    return Scale(min(mantissa, 10**18 - 1), digits)


@st.composite
def instruments_and_trades(draw: st.DrawFn) -> tuple[list[Instrument], np.ndarray]:
    symbols = draw(
        st.lists(st.from_regex(r"[A-Za-z0-9._/-]{1,24}", fullmatch=True), min_size=1, max_size=4)
    )
    instruments = [
        Instrument(number, symbol, draw(scales()), draw(scales()), 1, MAX_PRICE, 1, 0)
        for number, symbol in enumerate(symbols, start=1)
    ]
    word = words()
    rows = draw(
        st.lists(
            st.tuples(
                word,
                word,
                word,
                word,
                word,
                word,
                word,
                st.integers(1, len(symbols)),
                st.integers(1, 2),
                st.just((0,) * 5),
            ),
            max_size=12,
        )
    )
    return instruments, np.array(rows, TRADE)


@given(instruments_and_trades())
@settings(max_examples=300, deadline=None)
def test_bulk_lines_are_the_plain_ones(drawn: tuple[list[Instrument], np.ndarray]) -> None:
    instruments, trades = drawn
    lines = bytes(LineFormatter(instruments).format(trades))
    assert lines == plain_lines(trades, instruments)
    assert all(len(line) <= MAX_LINE_BYTES for line in lines.splitlines(keepends=True))


@given(instruments_and_trades())
@settings(max_examples=100, deadline=None)
def test_every_json_reader_gets_the_exact_values(
    drawn: tuple[list[Instrument], np.ndarray],
) -> None:
    instruments, trades = drawn
    lines = bytes(LineFormatter(instruments).format(trades)).splitlines(keepends=True)
    for line, trade, logged in zip(lines, trades, parse_lines(b"".join(lines)), strict=True):
        listed = instruments[int(trade["symbol"]) - 1]
        tree = json.loads(line, parse_float=Decimal)
        assert list(tree) == FIELDS
        assert tree == msgspec.structs.asdict(logged)
        step = EXACT.scaleb(Decimal(listed.tick.mantissa), -listed.tick.digits)
        assert EXACT.divide(logged.price, step) == int(trade["price"])
        assert trade_id_of(line) == int(trade["trade_id"])


def test_a_known_line() -> None:
    trade = np.zeros(1, TRADE)
    trade[0] = (7, 3, 1_700_000_000_000_000_000, 1005, 3, 4, 9, 1, 1, (0,) * 5)
    assert bytes(LineFormatter(INSTRUMENTS).format(trade)) == (
        b'{"trade_id":7,"symbol":"COOTX","buy_order_id":4,"sell_order_id":9,"price":10.05,'
        b'"quantity":3,"timestamp":1700000000000000000,"taker_side":"buy"}\n'
    )


@pytest.mark.parametrize(
    ("tick", "steps", "text"),
    [
        ("0.01", 1, "0.01"),
        ("0.10", 1, "0.10"),
        ("0.5", 3, "1.5"),
        ("1", MAX_PRICE, "9007199254740992"),
        ("1E+3", 12, "12000"),
        ("0.00000001", 123, "0.00000123"),
        ("0.999999999999999999", MAX_PRICE, "9007199254740991.990992800745259008"),
    ],
)
def test_decimals_keep_the_places_of_their_step(tick: str, steps: int, text: str) -> None:
    trades = make_trades(0, 1, 1)
    trades["symbol"], trades["price"] = 1, steps
    line = bytes(LineFormatter([instrument(1, "A", tick)]).format(trades))
    assert f'"price":{text},'.encode() in line
    assert plain_decimal(steps, Scale.parse(tick, "tick_size")) == text


def test_integers_beyond_64_bits_among_others() -> None:
    trades = make_trades(3, 1, 100)
    trades["symbol"] = 1 + np.arange(100) % 2
    trades["price"] = MAX_PRICE - np.arange(100) * 90_000_000_000_000
    trades["quantity"] = MAX_QUANTITY
    lines = bytes(LineFormatter([NARROW, WIDE]).format(trades))
    assert lines == plain_lines(trades, [NARROW, WIDE])


def test_lines_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    trades = make_trades(1, 1, 50)
    monkeypatch.setattr(engine.trade_log.lines, "HAVE_NUMBA", False)
    monkeypatch.setattr(engine.trade_log.lines, "format_lines", None)
    assert bytes(LineFormatter(INSTRUMENTS).format(trades)) == plain_lines(trades, INSTRUMENTS)


def test_the_buffer_grows_and_is_used_again() -> None:
    formatter = LineFormatter(INSTRUMENTS)
    for count in (0, 1, 7, 20, 3, 200):
        trades = make_trades(0, count + 1, count)
        assert bytes(formatter.format(trades)) == plain_lines(trades, INSTRUMENTS)


@pytest.mark.parametrize(
    ("field", "value"),
    [("symbol", 0), ("symbol", 2), ("symbol", 4), ("symbol", 65_535), ("taker_side", 3)],
)
@pytest.mark.parametrize("zeros", [False, True])
def test_what_is_no_trade_of_these_instruments(field: str, value: int, zeros: bool) -> None:
    trades = make_trades(0, 1, 3)
    trades["symbol"] = 1
    if zeros:
        trades["price"] = trades["quantity"] = 0
    trades[field][1] = value
    with pytest.raises(ValueError, match="trade 2"):
        LineFormatter([NARROW, instrument(3, "THIRD")]).format(trades)


def test_back_to_records() -> None:
    trades = make_trades(5, 10, 200)
    logged = parse_lines(bytes(LineFormatter(INSTRUMENTS).format(trades)))
    expected = trades.copy()
    expected["sequence"] = 0
    assert to_records(logged, INSTRUMENTS).tobytes() == expected.tobytes()
    with pytest.raises(ValueError, match="'BTC/USD' is not listed"):
        to_records(logged, INSTRUMENTS[:1] + INSTRUMENTS[2:])
    finer = instrument(1, "COOTX", "0.02")
    with pytest.raises(ValueError, match=r"must be a multiple of 0\.02"):
        to_records(logged, [finer, *INSTRUMENTS[1:]])


def test_a_trade_is_of_what_was_listed_last_and_can_say_it() -> None:
    old, new = instrument(1, "AA", "0.01"), instrument(7, "AA", "0.05")
    trades = make_trades(1, 2, 2)
    trades["symbol"], trades["price"], trades["quantity"] = 1, [103, 110], 1
    logged = parse_lines(bytes(LineFormatter([old]).format(trades)))
    for instruments in ([old, new], [new, old]):
        found = to_records(logged, instruments)
        assert found["symbol"].tolist() == [1, 7]
        assert found["price"].tolist() == [103, 22]
        assert LineFormatter(instruments).format(found) == b"".join(
            [bytes(LineFormatter([old]).format(trades[:1])),
             bytes(LineFormatter([old]).format(trades[1:]))]
        )  # fmt: skip


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"\0" * 40, b'{"other_id":7,"', b'{"trade_id":', b'{"trade_id":x,']
)
def test_no_id_of_what_is_no_line(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"no line of a trade|invalid literal"):
        trade_id_of(line)


@pytest.mark.parametrize("numba", [True, False])
@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"}\n",
        b'{"trade_id":}\n',
        b'{"trade_id":12}\n',
        b'{"trade_id":,"symbol":1}\n',
        b'{"trade_id":12345678901234567,"symbol":1}\n',
        b'{"trade_id":-12,"symbol":1}\n',
        b'{"trade-id":12,"symbol":1}\n',
        b'{"trade_id":12,"symbol":1\n',
        b'x{"trade_id":12,"symbol":1}\n',
        b"\0" * 60 + b"}\n",
    ],
)
def test_ids_up_to_a_line_at_fault(
    monkeypatch: pytest.MonkeyPatch, numba: bool, line: bytes
) -> None:
    monkeypatch.setattr(engine.trade_log.lines, "HAVE_NUMBA", numba)
    if not numba:
        monkeypatch.setattr(engine.trade_log.lines, "find_ids", None)
    lines = make_lines(255, 2**45 - 9, 5) + b'{"trade_id":1234567890123456,}\n'
    found = trade_ids(lines)
    assert found.tolist() == [*ids(255, 2**45 - 9, 5), 1234567890123456]
    assert trade_ids(lines + line).tolist() == found.tolist()
    assert trade_ids(lines + line + lines).tolist() == found.tolist()
    assert trade_ids(line).tolist() == trade_ids(b"").tolist() == []


def test_a_cut_line_is_no_trade() -> None:
    line = plain_line(make_trades(0, 1, 1)[0], INSTRUMENTS)
    for length in range(1, len(line) - 1):
        with pytest.raises(msgspec.DecodeError):
            parse_lines(line[:length])
