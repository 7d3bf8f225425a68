"""Which product a command is about, and how it tells what it found."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.printable import printable
from frontend.command_line.endings import FAILURE

if TYPE_CHECKING:
    from engine.config import Config
    from engine.verify import Verdict
    from frontend.reading import Reader
    from frontend.rows import RowWriter


def config_of(options: argparse.Namespace) -> "Config":
    from engine.config import load_config

    return load_config(options.config)


def with_database(config: "Config") -> "Config":
    """Return a configuration with what the environment says of the database."""
    from engine.environment import with_environment

    database = {name: text for name, text in os.environ.items() if name.startswith("DATABASE_")}
    return with_environment(config, database)


def place(options: argparse.Namespace, config: "Config") -> Path:
    """Return the data directory; machine code is kept in it where numba has no place.

    To be called before what is compiled is imported.
    """
    from ipc.native import code_cache

    data_dir: Path = options.data_dir or Path(config.data_dir)
    code_cache.prefer(data_dir.absolute() / "cache")
    return data_dir


def reader_of(options: argparse.Namespace) -> "Reader":
    config = config_of(options)
    data_dir = place(options, config)
    from frontend.reading import Reader, running_plan

    return Reader(running_plan(config, data_dir))


def say(line: str) -> None:
    print(printable(line), flush=True)


def judge(verdict: "Verdict", well: str) -> int:
    for line in verdict.lines:
        say(line)
    say(f"{verdict.problems} problems" if verdict.problems else well)
    return FAILURE if verdict.problems else 0


def row_writer(options: argparse.Namespace, fields: "Sequence[str]" = ()) -> "RowWriter | None":
    """Return what writes rows in the form that is asked for; None for text to read."""
    from frontend.rows import RowWriter

    return RowWriter(options.form, sys.stdout, fields) if options.form else None
