"""The command line: ``shardbook serve``, ``demo``, ``replay``, and what reads a running product.

Each command's work is done in a room of its own, which is imported when the command is given: so
that ``--help`` and mistakes answer at once. A mistake is one line on stderr and exit code 2, a
failure one line and exit code 1; a signal that asks to end ends it with 128 and its number, as
Ctrl-C with 130, a closed pipe with 0, both without a word.
"""

if __name__ == "__main__":
    import frontend.at_once  # noqa: F401

import argparse
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, TextIO

from engine.outlet import fill_standard_descriptors
from engine.printable import printable
from frontend.command_line import cluster, flows, kept, reads, starts
from frontend.command_line.endings import ToldToEnd, exit_code_of
from frontend.command_line.options import Parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    fill_standard_descriptors()
    try:
        code = _run(arguments)
    except KeyboardInterrupt as told:
        code = 128 + (told.number if isinstance(told, ToldToEnd) else signal.SIGINT)
    _settle(sys.stdout)
    _settle(sys.stderr)
    return code


def _run(arguments: list[str] | None) -> int:
    try:
        options = _parser().parse_args(arguments)
        run: Callable[[argparse.Namespace], int] = options.run
        code = run(options)
        sys.stdout.flush()
    except SystemExit as end:  # the parser has said why
        return int(end.code or 0)
    except BrokenPipeError:
        if not _has_no_reader(sys.stdout):
            raise
        return 0  # whoever read has seen enough
    except Exception as error:
        code = exit_code_of(error)
        if not code:
            raise
        with suppress(OSError):  # there is nobody to tell
            print(f"shardbook: {printable(str(error))}", file=sys.stderr, flush=True)
    return code


def _has_no_reader(stream: TextIO) -> bool:
    """Return whether a stream's other end is closed; true of one that cannot be asked."""
    look = select.poll()
    try:
        look.register(stream.fileno(), 0)
    except (OSError, ValueError):
        return True
    return bool(look.poll(0))


def _settle(stream: TextIO) -> None:
    """See to it that what could not be written does not fail once more at exit."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        stream.flush()


class _Version(argparse.Action):
    """Prints the version, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from frontend.version import product_version

        print(f"shardbook {product_version()}")
        parser.exit()


def _parser() -> Parser:
    parser = Parser(
        prog="shardbook",
        description="A sharded limit order book matching engine.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show it and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(run=run)
        return added

    for group in (starts, flows, reads, kept, cluster):
        group.add(command)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
