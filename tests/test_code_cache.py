"""Where machine code is kept: beside the source, or where a user who can write neither it nor a
home finds room; and what was compiled ahead is found there."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from frontend.client import Client
from ipc.native import code_cache
from ipc.native.compiled import HAVE_NUMBA
from tests.namespaces import in_namespace, sealed
from tests.product import config_text
from tests.test_serve import Served

pytestmark = pytest.mark.skipif(not HAVE_NUMBA, reason="nothing is compiled without numba")

ROOT = Path(__file__).resolve().parent.parent
NEITHER = "neither the installed code nor a home directory can be written"


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("c")


@pytest.fixture(autouse=True)
def _homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no home, as in a container, and no cache from elsewhere."""
    monkeypatch.setenv("HOME", "/nonexistent")
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR", code_cache.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(code_cache.FOUND_VARIABLE, raising=False)


def run(
    arguments: Sequence[str], *writable: Path, temporary: Path | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run Python where nothing can be written but some directories."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    if temporary is not None:
        environment["TMPDIR"] = str(temporary)
    prefix = in_namespace([*sealed(*writable), "cd /"])
    return subprocess.run(
        [*prefix, sys.executable, *arguments],
        env=environment, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip


def test_a_product_keeps_it_in_its_data_directory(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else can be written, no directory for temporary files either."""
    data = directory / "data"
    data.mkdir()
    python = [*in_namespace([*sealed(data), "cd /"]), sys.executable]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    text = f'data_dir = "{data}"\n' + config_text(2, 2)
    serving = Served(directory, text=text, python=python)
    serving.until("ready")
    with Client(serving.plan.addresses()[0], "alice") as alice:
        assert alice.submit("AA", "buy", quantity=1, price=1).order_id == 1
    shown = run(["-m", "frontend.cli", "status", "--config", str(serving.config)], data)
    assert (shown.returncode, shown.stdout.count("ready")) == (0, 6)
    assert shown.stderr == f"machine code is kept in {data}/cache: {NEITHER}\n"
    serving.process.send_signal(signal.SIGTERM)
    assert serving.end() == 0, serving.lines
    told = [line for line in serving.lines if "machine code" in line]
    assert told == [f"machine code is kept in {data}/cache: {NEITHER}\n"]
    assert "Traceback" not in "".join(serving.lines)
    assert list((data / "cache").glob("shard_*/pipeline_kernel.*.nbi"))


def test_a_client_keeps_it_in_a_directory_of_its_own(directory: Path) -> None:
    done = run(["-c", "import frontend.client.blocking"], directory, temporary=directory)
    place = directory / f"shardbook-cache-{os.getuid()}"
    assert (done.returncode, done.stderr) == (0, f"machine code is kept in {place}: {NEITHER}\n")
    assert place.stat().st_mode & 0o777 == 0o700


def test_a_client_without_any_place_works_all_the_same() -> None:
    code = (
        "import numpy as np; from ipc.native.keyed_kernel import home_of;"
        "print(home_of(np.uint64(5), np.uint64(1 << 61), 8))"
    )
    done = run(["-c", code])
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("there is no directory to keep machine code in, so each start compiles")


def test_a_demo_without_a_directory_for_temporary_files_says_so() -> None:
    done = run(["-m", "frontend.cli", "demo"])
    assert done.returncode == 1
    assert "shardbook: [Errno 2] No usable temporary directory found in" in done.stderr
    assert "Traceback" not in done.stderr


MODULE = """
from ipc.native.compiled import compiled

@compiled
def twice(number):
    return 2 * number

assert twice(4) == 8
print(sum(twice.stats.cache_hits.values()), twice.stats.cache_path)
"""


def test_what_was_compiled_ahead_is_found_by_who_cannot_write_it(directory: Path) -> None:
    """In SHARDBOOK_CACHE, or beside the source."""
    ahead, later, program = directory / "ahead", directory / "later", directory / "program.py"
    later.mkdir()
    program.write_text(MODULE)
    for temporary, variables, hits, place in (
        (directory, {code_cache.VARIABLE: str(ahead)}, 0, ahead),
        (later, {code_cache.VARIABLE: str(ahead)}, 1, later),
    ):
        done = run([str(program)], temporary, temporary=temporary, **variables)
        assert done.returncode == 0, done.stderr
        found, _, path = done.stdout.strip().partition(" ")
        assert (int(found), Path(path).is_relative_to(place)) == (hits, True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(program)], env=environment, check=True)  # beside it
    other = directory / "other"
    other.mkdir()
    done = run([str(program)], other, temporary=other)
    assert done.stdout.startswith(f"1 {other}/shardbook-cache-"), done.stderr


def test_warm_has_all_in_the_directory_that_it_is_told(directory: Path) -> None:
    ahead = directory / "ahead"
    command = [sys.executable, "-m", "frontend.cli", "warm", "--cache", str(ahead)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"done; with SHARDBOOK_CACHE={ahead} all commands find it\n")
    for name in ("shard_*/pipeline_kernel", "ladder_*/kernel", "wire_*/command_encoder"):
        assert list(ahead.glob(f"{name}.*.nbi")), name
    refused = run(["-m", "frontend.cli", "warm", "--cache", str(directory / "no")])
    assert refused.returncode == 1
    assert refused.stderr == f"shardbook: {directory}/no: Read-only file system\n"


def test_only_what_nobody_else_can_write_is_run(directory: Path) -> None:
    own, shared, linked = (directory / name for name in ("own", "shared", "linked"))
    assert code_cache._is_own(own)
    assert code_cache._is_own(own)
    shared.mkdir()
    shared.chmod(0o770)
    assert not code_cache._is_own(shared)
    linked.symlink_to(own)
    assert not code_cache._is_own(linked)
    if os.getuid() == 0:
        os.chown(own, 54321, 54321)
        assert not code_cache._is_own(own)
