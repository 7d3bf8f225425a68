"""The configuration: what ships is valid, and every mistake is named."""

import re
from importlib import resources

import pytest

from engine.config import ConfigError, InstrumentSection, load_config, parse_config
from ipc.vocabulary import MAX_PRICE

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


def test_every_bound_that_is_a_key_is_in_the_manual() -> None:
    config = load_config()
    named = {(section, key) for section, key, _ in bounds_in_manual()}
    for section in ("frontend", "http", "query"):
        for key in getattr(config, section).__struct_fields__:
            if key.startswith("max_") or key.endswith("_s"):
                assert (section, key) in named, f"{section}.{key}"
