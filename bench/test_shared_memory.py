"""Shared memory under pytest-benchmark: ``pytest bench/test_shared_memory.py --benchmark-only``.

``python -m bench.shared_memory`` sets the same operations beside plain copies.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.shared_memory import Operation, operations

NAMES = [
    "publish 1 trades",
    "publish 64 trades",
    "publish 4,096 trades",
    "apply 64 reports",
    "apply 4,096 reports",
    "read the last 100 trades",
    "read 4,096 trades",
    "get an order",
    "miss an order",
    "orders of an account",
    "show 64 levels a side",
    "read 64 levels a side",
    "count in the status page",
]


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, Operation]]:
    with operations() as made:
        assert list(made) == NAMES
        yield made


@pytest.mark.parametrize("name", NAMES)
def test_an_operation(benchmark: Any, found: dict[str, Operation], name: str) -> None:
    operation = found[name]

    def setup() -> tuple[tuple[Callable[[], object]], dict[str, Any]]:
        return (operation.prepare(),), {}

    benchmark.extra_info["calls"] = operation.calls
    benchmark.extra_info["records"] = operation.calls * operation.records
    benchmark.pedantic(lambda run: run(), setup=setup, rounds=5)
