"""The configuration: what ships is valid, and every mistake is named."""

import re
from importlib import resources

import pytest

from engine.books.ladder import layout
from engine.books.rules import MAX_SWEEPS, SWEEP_ORDERS
from engine.config import ConfigError, load_config, parse_config
from engine.journal import segment_closer
from engine.journal.format import MAX_HEADER_BYTES
from engine.journal.reader import READ_BYTES
from engine.sections import InstrumentSection
from engine.shard import account_sequences, durability
from engine.supervisor import MOST_DEATHS
from engine.trade_log import lines
from engine.trade_log.segments import MAX_SEAL_BYTES
from frontend.client.array_exchange import MAX_UNANSWERED, MAX_UNDER_WAY
from frontend.client.session import MAX_REPORTS
from frontend.gateway.channels import HELD_A_TURN
from frontend.http import connection, orders, reads, searches, socket_protocol, sockets
from frontend.http.candles import MAX_MINUTES
from frontend.http.log_limits import LINES_A_MINUTE
from frontend.http.queries import MAX_QUERY_FIELDS
from frontend.http.trade_reads import SCAN_BYTES
from frontend.reads import log_searches
from ipc import account_lines
from ipc.decimals import MAX_CHARACTERS
from ipc.vocabulary import MAX_PRICE
from ipc.wire import matcher_codec
from ipc.wire.messages import MAX_COMMAND_BODY, MAX_LOGIN_BODY

INSTRUMENT = '[[instruments]]\nsymbol = "A"\ntick_size = "0.01"\n'


def test_default_configuration_lists_its_instruments() -> None:
    config = load_config()
    listed = config.listed()
    assert [i.symbol for i in listed] == ["COOTX", "AAPL", "GOOGL", "MSFT", "TSLA"]
    assert [i.number for i in listed] == [1, 2, 3, 4, 5]
    assert {i.shard for i in listed} == set(range(config.engine.matchers))
    assert listed[0].tick.text(12_345) == "123.45"


def test_band_is_in_ticks_and_defaults_to_every_price() -> None:
    text = INSTRUMENT + 'min_price = "1"\nmax_price = "20.5"\n'
    (instrument,) = parse_config(text, "t").listed()
    assert (instrument.min_price, instrument.max_price) == (100, 2050)
    (instrument,) = parse_config(INSTRUMENT, "t").listed()
    assert (instrument.min_price, instrument.max_price) == (1, MAX_PRICE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\n" + INSTRUMENT, "x = 1: unknown key; allowed here: instruments, data_dir"),
        ('[engine]\nbook = "fast"\n' + INSTRUMENT, "engine.book = 'fast': must be one of"),
        ('[engine]\nmatchers = "two"\n' + INSTRUMENT, "engine.matchers = 'two': expected int"),
        ("[engine]\nmatchers = 0\n" + INSTRUMENT, "engine.matchers = 0: expected int >= 1"),
        ("[engine]\nbok = 1\n" + INSTRUMENT, "engine.bok = 1: unknown key; allowed here: book,"),
        ("engine = 3\n" + INSTRUMENT, "engine = 3: expected object"),
        ("data_dir = 3\n" + INSTRUMENT, "data_dir = 3: expected str"),
        ("[engine]\nring_trades = 100\n" + INSTRUMENT, "ring_trades = 100: must be a power of two"),
        ('[frontend]\ntcp = "nowhere"\n' + INSTRUMENT, "'nowhere': must be HOST:PORT"),
        ("instruments = 3", "instruments = 3: expected array"),
        (
            "[http]\nallowed_hosts = ['a', 1]\n" + INSTRUMENT,
            "http.allowed_hosts[1] = 1: expected str",
        ),
        ("[roles]\n'a.[b' = 1\n" + INSTRUMENT, "roles.a.[b = 1: expected object, got int"),
        ("", "instruments: must be given"),
        ('[[instruments]]\nsymbol = "A"\n', "instruments[0].tick_size: must be given"),
        (INSTRUMENT + INSTRUMENT, "instruments[1].symbol = 'A': must not be listed twice"),
        (INSTRUMENT.replace('"A"', '"A B"'), "instruments[0].symbol = 'A B': must be 1 to 24"),
        (INSTRUMENT + "shard = 9\n", "instruments[0].shard = 9: must be below engine.matchers"),
        (INSTRUMENT + "tick = 1\n", "instruments[0].tick = 1: unknown key; allowed here: symbol"),
        (INSTRUMENT + "max_resting_orders = 0\n", "max_resting_orders = 0: expected int >= 1"),
        (INSTRUMENT + "max_account_orders = 0\n", "max_account_orders = 0: expected int >= 1"),
        (INSTRUMENT.replace("0.01", "-1"), "instruments[0].tick_size: '-1' must be above zero"),
        (INSTRUMENT.replace("0.01", "x"), "tick_size: 'x' must be a decimal number"),
        (INSTRUMENT + 'min_price = "0.001"\n', "min_price: 0.001 must be a multiple of 0.01"),
        (INSTRUMENT + 'min_price = "5"\nmax_price = "4"\n', "must be 1 tick or more, in order"),
        ("[[x", "not TOML"),
        (f'data_dir = "/{"d" * 120}"\n' + INSTRUMENT, "must have at most 107 bytes"),
    ],
)
def test_mistake_is_named_with_key_value_and_rule(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "some.toml")
    assert str(caught.value).startswith("some.toml: ")
    assert expected in str(caught.value)


def test_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load_config(tmp_path / "absent.toml")


def bounds_in_manual() -> list[tuple[str, str, str]]:
    """Return section, key and the default beside it, of every key in the chapter on limits."""
    chapter = resources.files("frontend").joinpath("docs/limits.md").read_text()
    rows = [line.split("|")[1:3] for line in chapter.splitlines() if line.startswith("| `")]
    return [
        (section, key, default)
        for name, default in rows
        for section, key in re.findall(r"`(\w+)\.(\w+)`", name)
    ]


def test_the_manual_has_the_bounds_as_they_are() -> None:
    config = load_config()
    sections = {"instruments": InstrumentSection("X", "1")}
    found = bounds_in_manual()
    assert len(found) > 30
    for section, key, default in found:
        value = getattr(sections.get(section) or getattr(config, section), key)
        forms = {f"{value:,}", f"{value // 4:,}", f"{value >> 20} MiB"}
        assert re.findall(r"[\d,]+(?: MiB)?", default)[0] in forms, (section, key, default)


FIXED = {
    "bytes of a message; of a Login": (MAX_COMMAND_BODY, MAX_LOGIN_BODY),
    "orders that a mass cancel looks at in a row": (SWEEP_ORDERS,),
    "mass cancels under way on a shard": (MAX_SWEEPS,),
    "searches of the trade log that wait": (log_searches.MOST_WAITING,),
    "orders that a list by time": (reads.MOST_TIMED,),
    "lines of a worker's log that clients cause": (LINES_A_MINUTE,),
    "fields of a query": (MAX_QUERY_FIELDS,),
    "characters of a price or quantity": (MAX_CHARACTERS,),
    "reads of a worker that take long": (searches.MOST_SEARCHES, searches.MOST_OF_USER),
    "minutes with trades that a worker keeps": (MAX_MINUTES,),
    "bytes of the trade log that one request": (SCAN_BYTES >> 20,),
    "bytes of a message |": (sockets.MAX_MESSAGE_BYTES,),
    "fragments of a message": (socket_protocol.MAX_FRAGMENTS,),
    "ops under way": (sockets.MAX_PENDING_OPS,),
    "ops before a login": (sockets.MAX_OPS_BEFORE_LOGIN,),
    "bytes of a connection that are parsed": (
        connection.PIECE_BYTES,
        socket_protocol.PIECE_BYTES,
        sockets.OPS_A_TURN,
    ),
    "orders of a batch that are entered": (orders.BATCH_A_TURN,),
    "sessions of accounts that were held": (HELD_A_TURN,),
    "commands that wait for the disk": (durability.MOST_WAITING,),
    "journal segments that wait to be closed": (segment_closer.MOST_WAITING,),
    "header of a journal segment or snapshot": (
        MAX_HEADER_BYTES >> 20,
        lines.MAX_LINE_BYTES,
        MAX_SEAL_BYTES >> 10,
    ),
    "each field of a snapshot": (READ_BYTES >> 20,),
    "line of a list of users": (account_lines.MAX_LINE_BYTES,),
    "orders of a chain, and entries of a table": (
        layout.WALK_LIMIT,
        layout.PROBE_LIMIT,
        account_sequences.PROBE_LIMIT,
        matcher_codec.PROBE_LIMIT,
    ),
    "deaths of a process": (MOST_DEATHS,),
    "`max_reports`": (MAX_REPORTS,),
    "unanswered commands of a client": (MAX_UNANSWERED, MAX_UNDER_WAY),
}


@pytest.mark.parametrize("bound", FIXED)
def test_the_manual_has_the_bounds_that_are_no_keys(bound: str) -> None:
    chapter = resources.files("frontend").joinpath("docs/limits.md").read_text()
    [row] = [line for line in chapter.splitlines() if line.startswith(f"| {bound}")]
    told = re.findall(r"[\d,]*\d", row.split("|")[2])
    assert [f"{value:,}" for value in FIXED[bound]] == told[: len(FIXED[bound])]


def test_every_bound_that_is_a_key_is_in_the_manual() -> None:
    config = load_config()
    named = {(section, key) for section, key, _ in bounds_in_manual()}
    for section in ("frontend", "http", "query"):
        for key in getattr(config, section).__struct_fields__:
            if key.startswith("max_") or key.endswith("_s"):
                assert (section, key) in named, f"{section}.{key}"
