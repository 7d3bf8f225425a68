"""The persister under pytest-benchmark: ``pytest bench --benchmark-only``.

``python -m bench.persister`` prints all contenders beside plain writes of the same bytes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.persister import Bench, trades_of

TRADES = 1 << 15
NAMES = ["write() of the same bytes", "formatting", "persister", "persister, fsync"]


@pytest.mark.parametrize("name", NAMES)
def test_trades_into_the_log(benchmark: Any, tmp_path: Path, name: str) -> None:
    bench = Bench(trades_of(TRADES), tmp_path / "log")
    prepare = bench.contenders()[name]

    def setup() -> tuple[tuple[Callable[[], object]], dict[str, Any]]:
        return (prepare(),), {}

    benchmark.extra_info["trades"] = TRADES
    benchmark.pedantic(lambda run: run(), setup=setup, rounds=5)
    bench.clear()
