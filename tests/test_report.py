"""The report of figures: read out of what the benches print, and put between its marks."""

import re
from pathlib import Path

import pytest

from bench import report
from bench.measure import table
from bench.spread import spread
from tests.fork_server import ROOT

ABOUT = "date: 2026-11-30\ncommit: abc1234\nmachine: a machine, 2 cores\nversions: Python 3.11.7\n"


def outputs() -> dict[str, str]:
    """Return what benches could have printed: every table and row that the report wants."""
    found = {
        "about": ABOUT,
        "demo": "ok        arrays at full rate: 612,000 orders/s, 300,000 trades/s",
    }
    for place, figure in enumerate(report.FIGURES):
        header = ["", *dict.fromkeys((figure.value, figure.peer)), "last"]
        rows = [
            [
                name.strip(),
                *(spread([n, n + 1.0, n + 2.0], 0) for n in range(1_000, 999 + len(header))),
            ]
            for name in dict.fromkeys((figure.row, figure.peer_row or figure.row))
        ]
        rows[0][1] = spread([7_000.0 + place], 0)
        text = found.get(figure.bench, "machine: of no meaning\n\n")
        found[figure.bench] = f"{text}{table(figure.table + ', and so on', header, rows)}\n\n"
    return found


def test_every_figure_stands_beside_what_it_is_held_against() -> None:
    lines = report.lines(outputs(), short=False)
    assert len(lines) == len(report.FIGURES) + 1
    for place, (figure, line) in enumerate(zip(report.FIGURES, lines, strict=False)):
        assert line.startswith(f"| {figure.name} | 7,{place:03} {figure.unit} | ")
        assert re.search(r"\| 1,00\d \(1,00\d\.\.1,00\d\): " + re.escape(figure.against), line)
    assert "612,000 orders/s" in lines[-1]
    assert len(report.lines(outputs(), short=True)) < len(lines)


def test_the_table_goes_between_the_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}{report.END}after\n")
    for _ in range(2):
        report.put(page, report.report(outputs(), short=True))
        text = page.read_text()
        assert text.startswith(f"before\n{report.BEGIN}\n2026-11-30, commit abc1234; a machine")
        assert text.endswith(f"|\n\n{report.END}after\n")
        assert text.count("612,000 orders/s") == 1


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks\n")
    with pytest.raises(report.MissingError, match=r"page\.md: has no marks"):
        report.put(page, "")
    with pytest.raises(report.MissingError, match="no 'a second' of 'POST /orders, 64 c'"):
        report.lines(outputs() | {"http": ""}, short=True)
    with pytest.raises(report.MissingError, match="the demo's rate"):
        report.lines(outputs() | {"demo": ""}, short=True)


def test_both_pages_have_the_marks() -> None:
    for name in ("README.md", "frontend/docs/benchmarks.md"):
        text = (ROOT / name).read_text()
        assert text.count(report.BEGIN) == text.count(report.END) == 1
