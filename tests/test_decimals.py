"""Whatever is given for a number is one of ordinary size, or a short error that says the rule."""

import argparse
import json
import re
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.config import ConfigError, load_config, parse_config
from engine.environment import with_environment
from frontend.client.commands import Commands, Order
from frontend.client.errors import InvalidOrderError
from frontend.client.listings import Listings
from frontend.command_line.options import seconds, speed, whole
from ipc.decimals import (
    MAX_CHARACTERS,
    MAX_MAGNITUDE,
    NumberError,
    clipped,
    is_whole,
    read_decimal,
    shown,
    whole_number,
)
from ipc.wire.messages import InstrumentInfo

PLAIN = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
NEARLY = st.text(st.sampled_from("0123456789+-.eE_ \u0661\uff11\u00b2\n\tnaif"), max_size=130)
LONG = ["9" * 5_000, "81." + "0" * 5_000, "1e" + "9" * 5_000, "-" + "0" * 101]
NONE = [
    "",
    " ",
    "1_0",
    "\uff11",
    "\u00b2",
    "\u0663",
    " 1",
    "1 ",
    "1\n",
    "0x1",
    "1e",
    "e1",
    ".",
    "+",
]


@given(st.one_of(NEARLY, st.text(max_size=120), st.decimals().map(str)))
@example("1e-41")
@example("0" * 99 + "1")
def test_a_text_is_a_decimal_of_ordinary_size_or_a_rule(text: str) -> None:
    ordinary = PLAIN.fullmatch(text) and len(text) <= MAX_CHARACTERS
    if ordinary and abs(Decimal(text).adjusted()) <= MAX_MAGNITUDE:
        mantissa, exponent = read_decimal(text)
        assert mantissa * Fraction(10) ** exponent == Fraction(text)
    else:
        with pytest.raises(NumberError) as caught:
            read_decimal(text)
        assert len(str(caught.value)) <= MAX_CHARACTERS


@given(st.integers(-(10**40), 10**40), st.decimals(-(10**20), 10**20, places=10))
def test_whole_numbers_and_decimals_are_what_they_are(number: int, decimal: Decimal) -> None:
    assert read_decimal(number) == (number, 0)
    mantissa, exponent = read_decimal(decimal)
    assert mantissa * Fraction(10) ** exponent == decimal


@given(st.one_of(NEARLY, st.integers(0, 2**70).map(str)), st.integers(0, 2**63))
def test_a_whole_number_is_ascii_digits(text: str, high: int) -> None:
    digits = re.fullmatch("[0-9]{1,20}", text) is not None
    assert is_whole(text) == digits
    if digits and int(text) <= high:
        assert whole_number(text, 0, high) == int(text)
    else:
        with pytest.raises(NumberError, match=f"^must be a whole number of 0 to {high}$"):
            whole_number(text, 0, high)


@pytest.mark.parametrize(
    "value", [1.5, True, False, None, [], 10**5_000, Decimal("NaN"), *LONG], ids=shown
)
def test_what_is_no_decimal_is_refused_and_not_repeated(value: Any) -> None:
    with pytest.raises(NumberError) as caught:
        read_decimal(value)
    assert len(str(caught.value)) <= MAX_CHARACTERS


@given(st.recursive(st.one_of(st.text(), st.integers(), st.binary()), st.lists))
@example(10**5_000)
@example([10**5_000])
@example("x" * 99)
def test_a_value_is_shown_in_few_characters(value: object) -> None:
    assert len(shown(value)) <= MAX_CHARACTERS
    with suppress(ValueError):
        assert shown(value) == repr(value) or shown(value).endswith("...")
    assert clipped("x" * 101) == "x" * 97 + "..."


def configured(tick: str) -> None:
    written = json.dumps(tick)  # a text of TOML too
    parse_config(f'[[instruments]]\nsymbol = "A"\ntick_size = {written}\n', "t")


def entered(value: Any) -> None:
    listings = Listings([InstrumentInfo(1, "A", "0.01", "1", 1, 10**9, 0)])
    Commands(listings, lambda: 1).new_order(Order("A", "buy", 1, value))


PLACES: dict[str, tuple[Callable[[str], object], type[Exception]]] = {
    "configuration": (configured, ConfigError),
    "client": (entered, InvalidOrderError),
    "seconds": (seconds, argparse.ArgumentTypeError),
    "speed": (speed, argparse.ArgumentTypeError),
    "option": (whole(1, 9), argparse.ArgumentTypeError),
    "environment": (lambda text: with_environment(load_config(), {"PORT": text}), ConfigError),
}


@pytest.mark.parametrize("text", [*NONE[1:], *LONG], ids=shown)
@pytest.mark.parametrize("place", PLACES)
def test_no_place_takes_what_is_none(place: str, text: str) -> None:
    read, error = PLACES[place]
    with pytest.raises(error) as caught:
        read(text)
    assert len(str(caught.value)) <= MAX_CHARACTERS + 100
    assert "int_max_str_digits" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["ring_trades = " + "9" * 5_000, "ring_trades = 0x" + "f" * 5_000, "x = " + "[" * 9_000],
    ids=shown,
)
def test_a_number_of_the_configuration_has_few_digits(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"[engine]\n{text}\n", "t")
    assert len(str(caught.value)) <= 2 * MAX_CHARACTERS


@pytest.mark.parametrize("value", [True, 10**5_000, "9" * 5_000, Decimal("9" * 5_000)], ids=shown)
@pytest.mark.parametrize("field", ["quantity", "price", "client_order_id", "symbol", "side"])
def test_a_client_says_which_field_is_wrong(field: str, value: Any) -> None:
    listings = Listings([InstrumentInfo(1, "A", "0.01", "1", 1, 10**9, 0)])
    order = {"symbol": "A", "side": "buy", "quantity": 1, "price": 1, field: value}
    with pytest.raises(InvalidOrderError) as caught:
        Commands(listings, lambda: 1).new_order(Order(**order))
    assert caught.value.field == field
    assert len(str(caught.value)) <= MAX_CHARACTERS + 100
