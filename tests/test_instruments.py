"""Decimals at the edge: exact both ways, and refused where they are none."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.instruments import Scale, ScaleError

STEPS = ["0.01", "1", "0.25", "0.00000001", "5", "100", "1e2", "0.0005", "2.50"]


@given(st.sampled_from(STEPS), st.integers(0, 2**53))
def test_text_and_steps_are_inverse(step: str, count: int) -> None:
    scale = Scale.parse(step, "tick_size")
    text = scale.text(count)
    assert Decimal(text) == Decimal(step) * count
    assert scale.steps(text, "price") == count
    assert scale.steps(Decimal(text), "price") == count


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("100.005", "price: 100.005 must be a multiple of 0.01"),
        ("0.001", "must be a multiple"),
        (100.5, "must be a decimal text, an int or a Decimal"),
        ("ten", "must be a decimal number"),
        ("NaN", "must be a finite number"),
        ("1e60", "must be a finite number of ordinary size"),
        ("1e-60", "must be a finite number of ordinary size"),
    ],
)
def test_what_is_no_price_is_refused(value: object, rule: str) -> None:
    with pytest.raises(ScaleError) as caught:
        Scale.parse("0.01", "tick_size").steps(value, "price")  # type: ignore[arg-type]
    assert rule in str(caught.value)


def test_negative_decimal_is_a_negative_number_of_steps() -> None:
    assert Scale.parse("0.5", "tick_size").steps("-2.5", "price") == -5


@pytest.mark.parametrize("step", ["0", "-0.01", "x", "NaN", "Infinity", "1e-30", "1e30"])
def test_what_is_no_step_is_refused(step: str) -> None:
    with pytest.raises(ScaleError, match="tick_size"):
        Scale.parse(step, "tick_size")
