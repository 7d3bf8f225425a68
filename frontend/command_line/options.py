"""What commands take: the parser, and how numbers, names and times are read.

Each reader raises ``argparse.ArgumentTypeError``, which names the rule.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Protocol

from engine.printable import printable
from frontend.command_line.endings import USAGE
from ipc.decimals import NumberError, read_decimal, shown, whole_number


class AddCommand(Protocol):
    """What a group of commands adds its own with."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        """Add a command by its name, its work and a line of help; return its parser."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"shardbook: {printable(message)} (see {self.prog} --help)\n")


def add_form(parser: argparse.ArgumentParser) -> None:
    """Add the options that say in which form something is shown."""
    forms = parser.add_mutually_exclusive_group()
    for form, text in (("json", "an object of JSON a line"), ("csv", "CSV with a header")):
        forms.add_argument(
            f"--{form}", dest="form", action="store_const", const=form, help=f"as {text}"
        )


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which product is meant."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: the one that ships")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="default: data_dir of the configuration"
    )


def whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            return whole_number(text, low, high)
        except NumberError as error:
            raise argparse.ArgumentTypeError(f"{shown(text)} {error}") from None

    return read


def user(text: str) -> str:
    if not 1 <= len(text) <= 64 or not text.isprintable() or set(text) & {'"', "\\"}:
        raise argparse.ArgumentTypeError(
            f'{shown(text)} must be 1 to 64 characters, none of them " or \\'
        )
    return text


def seconds(text: str) -> float:
    value = _number(text, "must be 0.1 to 86400 seconds")
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{shown(text)} must be 0.1 to 86400 seconds")
    return value


def speed(text: str) -> float | str:
    if text.lower() == "max":
        return "max"
    value = _number(text, "must be a number above 0, or max")
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{shown(text)} must be above 0, or max")
    return value


def moment(text: str) -> int:
    from frontend.times import TIME_RULE, nanoseconds

    found = nanoseconds(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{shown(text)} {TIME_RULE}")
    return min(found, 1 << 63)


def _number(text: str, rule: str) -> float:
    try:
        read_decimal(text)
    except NumberError:
        raise argparse.ArgumentTypeError(f"{shown(text)} {rule}") from None
    return float(text)
