"""Runs the shorter benches and writes the table of figures: one machine, one day, one commit.

    python -m bench.report [--keep DIR] [--only NAME ...]

Each figure stands beside what the same run measured it against. The table goes between the marks in
``frontend/docs/benchmarks.md`` and ``README.md``. What the benches print is kept in ``--keep``;
what is there already is not run again, so that a report can be made in parts; what has not been run
yet has no figure in the table. Run it on a machine that does nothing else.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.measure import machine, versions

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- bench.report: begin -->\n", "<!-- bench.report: end -->\n"

BENCHES: dict[str, list[str]] = {
    "book": ["bench.book", "--quick"],
    "path": [
        *("bench.path", "--rounds", "3", "--seconds", "0.5", "--matchers", "1"),
        *("--clients", "1", "8", "--parts", "rates", "latency"),
    ],
    "arrays": ["bench.arrays", "--runs", "3"],
    "http": ["bench.http", "--rounds", "3", "--seconds", "0.5"],
    "recovery": ["bench.recovery", "--parts", "replay"],
    "demo": ["frontend.cli", "demo"],
}
"""What is run, by its name here."""


class Figure(NamedTuple):
    """A row of the table: where its figure and what it is held against stand in a bench's output.

    ``table`` and ``row``: how the table's title and the row begin; ``value`` and ``peer`` are
    headers of columns. ``peer_row``: how the peer's row begins, where it has one of its own.
    """

    name: str
    bench: str
    table: str
    row: str
    value: str
    unit: str
    peer: str
    against: str
    peer_row: str = ""
    short: bool = False
    """Whether the README has it too."""


FIGURES = (
    Figure(
        "the book alone, 4,096 messages a call, on its worst workload",
        *("book", "Whole workloads", "ladder ", "ns/message", "ns a message", "ns/message"),
        *("without accounts, ownership and duplicate checks", "ladder, bare", True),
    ),
    Figure(
        "orders end to end, each a frame of its own, 1 client",
        *("path", "1, 2. Orders", "pipelined, 1 m, 1 c", "1000 orders/s", "thousand/s"),
        *("bare chain", "a bare chain of processes that match nothing"),
    ),
    Figure(
        "orders end to end, each a frame of its own, 8 clients",
        *("path", "1, 2. Orders", "pipelined, 1 m, 8 c", "1000 orders/s", "thousand/s"),
        *("bare chain", "a bare chain of processes that match nothing", "", True),
    ),
    Figure(
        "an order and its answer, one at a time, median",
        *("path", "3. Round trip", "one at a time, p50", "microseconds", "us"),
        *("bare chain", "the bare chain", "", True),
    ),
    Figure(
        "an order and its answer, one at a time, 99th percentile",
        *("path", "3. Round trip", "one at a time, p99 ", "microseconds", "us"),
        *("bare chain", "the bare chain"),
    ),
    Figure(
        "orders as one array from one Python client, every answer read",
        *("arrays", "One client process", "an array", "1000 orders/s", "thousand/s"),
        *("1000 orders/s", "the same as a list of orders", "a list of orders", True),
    ),
    Figure(
        "`POST /orders`, 64 connections, two workers",
        *("http", "medians", "POST /orders, 64 c", "a second", "a second"),
        *("bare", "the same bytes from a bare server", "", True),
    ),
    Figure(
        "`GET /orderbook`, 64 connections",
        *("http", "medians", "GET /orderbook, 64 c", "a second", "a second"),
        *("bare", "the same bytes from a bare server"),
    ),
    Figure(
        "commands carried out again at a start, 4,096 a batch",
        *("recovery", "replay, ", "4096", "recover", "million/s"),
        *("read and CRC", "reading them and their checksums alone"),
    ),
)
DEMO = re.compile(r"arrays at full rate: ([\d,]+) orders/s, ([\d,]+) trades/s")


class Table(NamedTuple):
    """What a bench printed as one."""

    title: str
    header: list[str]
    rows: list[list[str]]


class MissingError(Exception):
    """A figure is not where it should be."""


def tables(output: str) -> list[Table]:
    """Return the tables of a bench's output: title, header, and rows as cells."""
    found: list[Table] = []
    title = ""
    rows: list[list[str]] = []
    for line in [*output.splitlines(), ""]:
        if line.startswith("  ") and title:
            rows.append(re.split(r"\s{2,}", line.strip()))
            continue
        if rows:
            width = max(map(len, rows))
            header = [""] * (width - len(rows[0])) + rows[0]
            body = [row + [""] * (width - len(row)) for row in rows[1:]]
            found.append(Table(title, header, body))
        title, rows = line, []
    return found


def cell(found: list[Table], table: str, row: str, column: str) -> str:
    """Return a cell by how table and row begin. Raises ``MissingError``."""
    for title, header, rows in found:
        if title.startswith(table) and column in header:
            for cells in rows:
                if f"{cells[0]} ".startswith(row):
                    return cells[header.index(column)]
    raise MissingError(f"no {column!r} of {row!r} in a table {table!r}")


def lines(outputs: dict[str, str], short: bool) -> list[str]:
    """Return the rows of the report, all or those of the README."""
    read = {name: tables(output) for name, output in outputs.items()}
    rows = []
    for figure in FIGURES:
        if figure.bench not in read or (short and not figure.short):
            continue
        found = read[figure.bench]
        value = cell(found, figure.table, figure.row, figure.value)
        peer = cell(found, figure.table, figure.peer_row or figure.row, figure.peer)
        rows.append(
            f"| {figure.name} | {_number(value)} {figure.unit} | {_number(peer)}: {figure.against} "
            f"| `bench.{figure.bench}` |"
        )
    if {"demo", "arrays"} <= set(outputs):
        demo = DEMO.search(outputs["demo"])
        if demo is None:
            raise MissingError("the demo's rate of arrays")
        alone = cell(read["arrays"], "One client process", "an array", "1000 orders/s")
        rows.append(
            f"| the demo's arrays: two makers, two takers, every answer and fill kept | {demo[1]} "
            f"orders/s, {demo[2]} trades/s | {_number(alone)} thousand/s: one client that keeps "
            "nothing | `shardbook demo` |"
        )
    return rows


def report(outputs: dict[str, str], short: bool) -> str:
    """Return what stands between the marks."""
    told = dict(line.split(": ", 1) for line in outputs["about"].splitlines())
    head = (
        f"{told['date']}, commit {told['commit']}; {told['machine']};\n{told['versions']}; medians "
        "of interleaved rounds, journal and trade log on:\n"
    )
    header = ["| what | figure | beside it, in the same run | by |", "| --- | --- | --- | --- |"]
    return "\n".join([head, *header, *lines(outputs, short)]) + "\n"


def put(path: Path, text: str) -> None:
    """Put a text between the marks of a file. Raises ``MissingError`` where it has none."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise MissingError(f"{path}: has no marks for the table")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def run(names: Sequence[str], directory: Path) -> None:
    """Let each bench print into its file, where that is not there yet."""
    about = directory / "about"
    if not about.exists():
        asked = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        date = datetime.now(UTC).date().isoformat()
        about.write_text(
            f"date: {date}\ncommit: {commit}\nmachine: {machine()}\n"
            f"versions: {versions('numpy', 'numba')}\n"
        )
    for name in names:
        kept = directory / name
        if kept.exists():
            continue
        print(f"{name}: python -m {' '.join(BENCHES[name])}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", *BENCHES[name]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stdout[-2_000:]}\n{done.stderr[-2_000:]}")
        kept.write_text(done.stdout)


def _number(text: str) -> str:
    """Return a figure with its spread: ``1,700 (1,650..1,720)``."""
    return re.sub(r"\d{4,}", lambda found: f"{int(found[0]):,}", text)


def main() -> None:
    """Run what is missing, and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--keep", type=Path, help="where the benches' outputs are kept")
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=list(BENCHES))
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        directory = options.keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        run(options.only, directory)
        outputs = {path.name: path.read_text() for path in directory.iterdir()}
    if missing := set(BENCHES) - set(outputs):
        print(f"not in the table, still to be run: {', '.join(sorted(missing))}")
    put(ROOT / "frontend" / "docs" / "benchmarks.md", report(outputs, short=False))
    put(ROOT / "README.md", report(outputs, short=True))


if __name__ == "__main__":
    main()
