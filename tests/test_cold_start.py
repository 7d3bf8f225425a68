"""A first start compiles, says so, and leaves nothing to compile for later: the cache tells."""

import asyncio
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from engine.plan import Plan
from frontend.client import AsyncClient, asynchronous
from ipc.native import code_cache
from ipc.native.compiled import HAVE_NUMBA
from ipc.records import COMMAND
from ipc.wire import client_codec
from tests.test_serve import AS_A_USER, Served

pytestmark = [
    pytest.mark.skipif(not HAVE_NUMBA, reason="nothing is compiled without numba"),
    pytest.mark.timeout(900),
]

FIRST = "compiling for this machine, on the first start only"

USE = """
import asyncio, sys
import numpy as np
from frontend.client import AsyncClient, Client
from ipc.records import COMMAND
from ipc.vocabulary import CommandType, OrderType, Side, TimeInForce

address, first = sys.argv[1], int(sys.argv[2])

def orders(first):
    commands = np.zeros(2_000, COMMAND)
    commands["command_type"], commands["symbol"] = CommandType.NEW, 1
    commands["order_type"], commands["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
    commands["side"][::2], commands["side"][1::2] = Side.BUY, Side.SELL
    commands["price"] = commands["quantity"] = 1
    commands["client_order_id"] = np.arange(first, first + len(commands))
    commands.flags.writeable = False
    return commands

with Client(address, "alice") as alice:
    alice.submit("AA", "buy", quantity=1, price=1)
    alice.submit_array(orders(first)[::2])
    assert len(alice.submit_array(orders(first + 10_000))) == 2_000
    assert len(alice.receive_array(5))

async def use():
    async with AsyncClient(address, "bob") as bob:
        await bob.submit("BB", "buy", quantity=1, price=1)
        assert len(await bob.submit_array(orders(first))) == 2_000
        assert len(await bob.receive_array(5))

asyncio.run(use())
"""


def kept(cache: Path) -> dict[Path, int]:
    """Return every file of machine code, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*.nb?")}


def start(directory: Path) -> Served:
    directory.mkdir(exist_ok=True)
    return Served(directory, python=AS_A_USER)


def end(served: Served) -> None:
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0, served.lines


def use(served: Served, first: int) -> None:
    """Trade as clients of both kinds do, with client_order_ids from ``first`` on."""
    arguments = [str(served.plan.addresses()[0]), str(first)]
    command = [sys.executable, "-c", USE, *arguments]
    used = subprocess.run(command, text=True, capture_output=True, check=False)
    assert used.returncode == 0, used.stderr


@pytest.fixture(scope="module")
def places() -> Iterator[Path]:
    """A directory for products, and in it "cache", at first empty; all of them look there."""
    with TemporaryDirectory(prefix="sb-") as name, pytest.MonkeyPatch.context() as patch:
        cache = Path(name) / "cache"
        cache.mkdir()
        patch.delenv(code_cache.VARIABLE, raising=False)
        patch.setenv(
            "NUMBA_CACHE_DIR", str(cache)
        )  # nothing is copied there from beside the source
        yield Path(name)


@pytest.fixture(scope="module")
def cold(places: Path) -> Iterator[Served]:
    """A product that started on the empty cache, and is ready."""
    served = start(places / "a")
    try:
        served.until("ready")
        yield served
    finally:
        served.process.kill()
        served.process.wait()


def test_an_asyncio_client_does_not_compile_on_its_loop(
    product: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def warm() -> None:
        threads.append(threading.current_thread())
        client_codec.warm()

    monkeypatch.setattr(asynchronous, "warm", warm)

    async def use() -> None:
        async with AsyncClient(product.addresses()[0], "alice") as alice:
            for call in (lambda: alice.submit_array(np.zeros(0, COMMAND)),
                         lambda: alice.receive_array(0)):  # fmt: skip
                client_codec.warm.cache_clear()
                await call()

    asyncio.run(use())
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_a_first_start_compiles_and_says_so(cold: Served, places: Path) -> None:
    assert kept(places / "cache")
    assert cold.lines[0] == f"{FIRST}\n"
    assert any("matching" in line for line in cold.lines)


def test_nothing_is_compiled_after_ready(cold: Served, places: Path) -> None:
    before = kept(places / "cache")
    use(cold, 1)
    os.kill(cold.member("matcher").pid, signal.SIGKILL)
    cold.until("matcher 0 is back")
    use(cold, 100_001)
    end(cold)
    again = start(places / "a")
    again.until("ready")
    end(again)
    assert not [line for line in again.lines if "compiling" in line]
    command = [sys.executable, "-m", "frontend.cli", "demo", "--seconds", "1"]
    demo = subprocess.run(command, text=True, capture_output=True, check=False)
    assert (demo.returncode, "compiling" in demo.stdout) == (0, False), demo.stdout + demo.stderr
    assert kept(places / "cache") == before


def _of_another_version(path: Path) -> None:
    with path.open("rb") as file:
        pickle.load(file)
        rest = file.read()
    path.write_bytes(pickle.dumps("0.1") + rest)


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _garbage(path: Path) -> None:
    path.write_bytes(b"\0garbage")


DAMAGED = {
    "report_shares.carry_over*.nbi": (_of_another_version, "showing"),
    "batches._scan_words*.nbi": (_garbage, "the journal"),
    "frame_sorter.sort_by_stream*.nbc": (_cut_off, "routing"),
    "line_kernels.find_ids*.nbc": (_garbage, "the trade log"),
}
"""Files of machine code, what is done to them, and the step that makes them anew."""


@pytest.mark.usefixtures("cold")
def test_what_cannot_be_run_is_compiled_again(places: Path) -> None:
    for pattern, (damage, _) in DAMAGED.items():
        broken = list((places / "cache").rglob(pattern))
        assert broken, pattern
        for path in broken:
            damage(path)
    told = []
    for _ in range(2):
        shutil.rmtree(places / "c", ignore_errors=True)
        served = start(places / "c")
        served.until("ready")
        end(served)
        told.append([line.strip() for line in served.lines if "compiling" in line])
        assert "Traceback" not in "".join(served.lines)
    (first, *steps), again = told
    assert first == FIRST
    assert all(re.match(r"compiling [1-4] of 4: ", step) for step in steps), steps
    assert {name for step in steps for name in step.partition(": ")[2].split(", ")} == {
        name for _, name in DAMAGED.values()
    }
    assert again == []
