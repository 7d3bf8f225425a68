"""Texts that become numbers, whoever wrote them: bounded before anything is computed.

Digits are ASCII; nothing else of what Python takes for a number is one here: no ``1_0``, no blanks,
no full-width digits, no ``True``. An error never repeats more than ``MAX_CHARACTERS``.
"""

import re
from decimal import Decimal

MAX_CHARACTERS = 100
"""Of a decimal that is read, and of a value that an error repeats."""
MAX_MAGNITUDE = 40
"""A decimal's first digit stands at most so many places before or behind the point."""
MAX_WHOLE_DIGITS = 20
"""Of a whole number: as many as 64 bits have."""

_DECIMAL = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?")
_NOT_FINITE = re.compile(r"[+-]?(?:s?nan[0-9]*|inf(?:inity)?)", re.IGNORECASE)


class NumberError(ValueError):
    """What was given is no such number; the text is the rule, and repeats nothing."""


def whole_number(text: str, low: int, high: int) -> int:
    """Return the whole number that a text is, of ``low`` to ``high``; neither is negative.

    Raises ``NumberError``.
    """
    if is_whole(text) and low <= int(text) <= high:
        return int(text)
    raise NumberError(f"must be a whole number of {low} to {high}")


def is_whole(text: str) -> bool:
    """Return whether a text is 1 to ``MAX_WHOLE_DIGITS`` ASCII digits, so that ``int`` reads it."""
    return len(text) <= MAX_WHOLE_DIGITS and text.isascii() and text.isdigit()


def read_decimal(value: "str | int | Decimal") -> tuple[int, int]:
    """Return a decimal as ``(mantissa, exponent)``: it is mantissa * 10 ** exponent.

    A text is one as JSON has it, or begins with + or with the point. Floats are refused, since
    their decimal is not what was written. Raises ``NumberError``.
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool | float) or not isinstance(value, int | Decimal):
        raise NumberError("must be a decimal text, an int or a Decimal")
    elif isinstance(value, int) and value.bit_length() > 4 * MAX_CHARACTERS:
        raise NumberError(_TOO_LONG)
    else:
        text = str(value)
    if len(text) > MAX_CHARACTERS:
        raise NumberError(_TOO_LONG)
    found = _DECIMAL.fullmatch(text)
    if found is None:
        if _NOT_FINITE.fullmatch(text):
            raise NumberError("must be a finite number")
        raise NumberError("must be a decimal number")
    sign, whole, fraction, power = found.groups()
    digits = whole + (fraction or "")
    if not digits:
        raise NumberError("must be a decimal number")
    mantissa, exponent = int(digits), int(power or 0) - len(fraction or "")
    first = exponent + len(digits.lstrip("0") or "0") - 1
    if abs(first) > MAX_MAGNITUDE:
        raise NumberError("must be a finite number of ordinary size")
    return (-mantissa if sign == "-" else mantissa), exponent


_TOO_LONG = f"must have at most {MAX_CHARACTERS} characters"


def shown(value: object) -> str:
    """Return a value as an error repeats it: as Python writes it, cut to ``MAX_CHARACTERS``."""
    if isinstance(value, str | bytes):
        text = repr(value[:MAX_CHARACTERS])
    else:
        try:
            text = repr(value)
        except (ValueError, RecursionError):  # a number that is too long to be written, or nesting
            text = f"a {type(value).__name__}"
    return clipped(text)


def clipped(text: str) -> str:
    """Return a text cut to ``MAX_CHARACTERS``."""
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 3] + "..."
