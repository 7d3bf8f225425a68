"""Numbers and shards of instruments: for good, whatever becomes of the file."""

import pytest

from engine.config import Config, ConfigError, parse_config
from engine.journal.shard_config import ShardConfig, differences, shard_config_of
from engine.listing import listed_in
from engine.plan import Plan


def config(*rows: str, matchers: int = 2) -> Config:
    """Return a configuration of instruments, each ``SYMBOL`` and what else it has."""
    text = f"[engine]\nmatchers = {matchers}\n"
    for row in rows:
        symbol, *more = row.split()
        keys = {"tick_size": '"0.01"'} | dict(one.split("=") for one in more)
        text += f'[[instruments]]\nsymbol = "{symbol}"\n'
        text += "".join(f"{key} = {value}\n" for key, value in keys.items())
    return parse_config(text, "test")


def kept_of(listed: Config, *shards: int) -> dict[int, ShardConfig]:
    """Return what the journals of shards keep of a configuration."""
    plan = Plan(listed)
    return {shard: shard_config_of(plan, shard) for shard in shards}


def places(listed: Config) -> dict[str, tuple[int | None, int | None]]:
    return {section.symbol: (section.number, section.shard) for section in listed.instruments}


def retired(listed: Config) -> list[tuple[str, int | None, int | None]]:
    return [(section.symbol, section.number, section.shard) for section in listed.retired]


def test_a_new_directory_goes_by_the_file() -> None:
    listed = listed_in(config("A", "B", "C shard=1"), {})
    assert places(listed) == {"A": (1, 0), "B": (2, 1), "C": (3, 1)}
    assert listed_in(listed, {}) is listed
    assert Plan(listed).instruments == Plan(config("A", "B", "C shard=1")).instruments


def test_what_stands_keeps_number_and_shard_wherever_it_stands_in_the_file() -> None:
    kept = kept_of(listed_in(config("A", "B", "C", "D"), {}), 0, 1)
    listed = listed_in(config("X", "D", "C", "Y", "B", "A"), kept)
    assert places(listed) == {
        "X": (5, 0), "D": (4, 1), "C": (3, 0), "Y": (6, 1), "B": (2, 1), "A": (1, 0)
    }  # fmt: skip
    assert not listed.retired
    assert listed_in(config("A", "B", "C", "D"), kept) == listed_in(config("A", "B", "C", "D"), {})


def test_what_is_new_goes_to_the_shard_with_fewest_or_where_the_file_says() -> None:
    kept = kept_of(listed_in(config("A shard=0", "B shard=0", "C shard=0", "D shard=1"), {}), 0, 1)
    listed = listed_in(config("A", "B", "C", "D", "E", "F", "G shard=0", "H"), kept)
    assert [places(listed)[symbol][1] for symbol in "EFGH"] == [1, 1, 0, 1]
    # A hundred more: none that stands moves, and they are dealt evenly.
    many = listed_in(config("A", "B", "C", "D", *(f"N{n}" for n in range(100))), kept)
    assert {symbol: place for symbol, place in places(many).items() if len(symbol) == 1} == {
        "A": (1, 0), "B": (2, 0), "C": (3, 0), "D": (4, 1)
    }  # fmt: skip
    assert [section.shard for section in many.instruments].count(0) == 52
    assert len({section.number for section in many.instruments}) == 104


def test_an_unlisted_instrument_is_retired_and_its_number_never_given_again() -> None:
    kept = kept_of(listed_in(config("A", "B", "C"), {}), 0, 1)
    without = listed_in(config("A", "B"), kept)
    assert retired(without) == [("C", 3, 0)]
    kept = kept_of(without, 0, 1)
    again = listed_in(config("A", "B", "C"), kept)
    assert places(again)["C"] == (4, 0)
    assert retired(again) == [("C", 3, 0)]


@pytest.mark.parametrize("change", ["tick_size='0.05'", "lot_size='10'"])
def test_another_tick_or_lot_is_a_new_version_on_the_same_shard(change: str) -> None:
    kept = kept_of(listed_in(config("A", "B", "C"), {}), 0, 1)
    listed = listed_in(config("A", f"B {change}", "C"), kept)
    assert places(listed) == {"A": (1, 0), "B": (4, 1), "C": (3, 0)}
    assert retired(listed) == [("B", 2, 1)]
    plan = Plan(listed)
    assert [i.number for i in plan.instruments_of(1)] == [4]
    assert [i.number for i in plan.known_instruments] == [1, 4, 3, 2]
    assert plan.known_instruments[-1].tick.text(1) == "0.01"
    # The same number, written otherwise, is no other tick.
    same = listed_in(config("A", "B tick_size='0.010'", "C"), kept)
    assert places(same)["B"] == (2, 1)


def test_another_shard_is_a_new_version_there() -> None:
    kept = kept_of(listed_in(config("A", "B", "C"), {}), 0, 1)
    listed = listed_in(config("A", "B shard=0", "C"), kept)
    assert places(listed)["B"] == (4, 0)
    assert retired(listed) == [("B", 2, 1)]
    # Killed when one shard knew of it alone, it is the same again, and its way back is one too.
    half = kept | kept_of(listed, 0)
    assert places(listed_in(config("A", "B shard=0", "C"), half)) == places(listed)
    back = listed_in(config("A", "B shard=1", "C"), half)
    assert places(back)["B"] == (2, 1)
    assert retired(back) == [("B", 4, 0)]


def test_a_shard_that_has_kept_nothing_is_as_new() -> None:
    kept = kept_of(listed_in(config("A", "B", "C", "D"), {}), 0)
    listed = listed_in(config("A", "B", "C", "D"), kept)
    assert places(listed) == {"A": (1, 0), "B": (2, 1), "C": (3, 0), "D": (4, 1)}


def test_more_shards_are_taken_and_fewer_refused() -> None:
    kept = kept_of(listed_in(config("A", "B"), {}), 0, 1)
    more = listed_in(config("A", "B", "C", matchers=3), kept)
    assert places(more) == {"A": (1, 0), "B": (2, 1), "C": (3, 2)}
    assert differences(kept[0], shard_config_of(Plan(more), 0)) == ["matchers was 2, is 3"]
    with pytest.raises(ConfigError, match=r"engine.matchers = 1: must not be below 2"):
        listed_in(config("A", "B", matchers=1), kept)


def test_numbers_end() -> None:
    kept = kept_of(listed_in(config("A", matchers=1), {}), 0)
    last = kept[0].instruments[0]._replace(number=65_535)
    kept = {0: ShardConfig(0, 1, 65_536, [last])}
    assert places(listed_in(config("A", matchers=1), kept)) == {"A": (65_535, 0)}
    with pytest.raises(
        ConfigError, match=r"instruments\[1\] \(B\): must have a number up to 65535"
    ):
        listed_in(config("A", "B", matchers=1), kept)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("number = 7\n", r"instruments\[0\].number = 7: unknown key"),
        ("[[retired]]\nsymbol = 'B'\ntick_size = '1'\n", "retired: unknown key"),
    ],
)
def test_a_file_gives_no_numbers(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config(f'[[instruments]]\nsymbol = "A"\ntick_size = "1"\n{text}', "test")
