"""The books under pytest-benchmark: ``pytest bench --benchmark-only``.

A small stream and no peers; ``python -m bench.book`` prints all there is.
"""

from collections.abc import Callable
from typing import Any

import pytest

from bench.book import BATCH, in_batches
from bench.equality import BOOKS
from bench.workloads import generated

COMMANDS = 50_000


@pytest.mark.parametrize("size", [1, 64, BATCH])
@pytest.mark.parametrize("name", BOOKS)
def test_a_stream_of_commands(benchmark: Any, name: str, size: int) -> None:
    workload = generated(COMMANDS)

    def setup() -> tuple[tuple[Callable[[], None]], dict[str, Any]]:
        return (in_batches(BOOKS[name], workload, size, COMMANDS),), {}

    benchmark.extra_info["commands"] = COMMANDS
    benchmark.pedantic(lambda go: go(), setup=setup, rounds=5)
