"""What others put where the product's shared memory is to lie: refused by name, never obeyed."""

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.journal.format import JournalError
from engine.journal.reader import segments_of
from engine.plan import Plan
from engine.shard.snapshotter import take_snapshot
from engine.supervisor import ServeError, Supervisor
from frontend.cli import main
from frontend.command_line.endings import FAILURE
from frontend.reading import ReadError, running_plan
from frontend.roles import ROLES
from ipc.memory.mapping import MappingError, check_run_directory, create_mapping, open_mapping
from tests.kept import commands_for, plan_of, write_journal
from tests.product import Wire, make_config, running
from tests.test_serve import cross

LAYOUT = np.dtype([("value", "<u8")])
NOBODY = 65_534

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root makes another user's files")


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    """A product that does not run, with a journal."""
    plan = plan_of(tmp_path)
    write_journal(plan, commands_for(plan, 300))
    yield plan
    if plan.run_dir.is_symlink() or not plan.run_dir.is_dir():
        plan.run_dir.unlink(missing_ok=True)
    else:
        shutil.rmtree(plan.run_dir)


def others(plan: Plan) -> None:
    plan.run_dir.mkdir(mode=0o700)
    os.chown(plan.run_dir, NOBODY, NOBODY)


def open_to_others(plan: Plan) -> None:
    plan.run_dir.mkdir()
    plan.run_dir.chmod(0o777)


def link_of_others(plan: Plan) -> None:
    plan.run_dir.symlink_to(plan.data_dir)
    os.chown(plan.run_dir, NOBODY, NOBODY, follow_symlinks=False)


def link_elsewhere(plan: Plan) -> None:
    elsewhere = plan.data_dir / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o755)  # whatever the umask
    plan.run_dir.symlink_to(elsewhere)


def file(plan: Plan) -> None:
    plan.run_dir.touch(0o600)


def pipe(plan: Plan) -> None:
    os.mkfifo(plan.run_dir, 0o600)


Plant = Callable[[Plan], None]
PLANTS = [
    pytest.param(others, "belongs to user 65534", marks=as_root),
    pytest.param(link_of_others, "belongs to user 65534", marks=as_root),
    (open_to_others, "is open to others"),
    (link_elsewhere, "is open to others"),
    (file, "must be a directory"),
    (pipe, "must be a directory"),
]


@pytest.mark.parametrize(("plant", "why"), PLANTS)
def test_what_is_planted_is_refused_by_name(
    plan: Plan, plant: Plant, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(plan)
    before = sorted(tmp_path.rglob("*"))
    refusal = f"{plan.run_dir}: .*{why}"
    with pytest.raises(MappingError, match=refusal):
        open_mapping(plan.status_path, "status", LAYOUT)
    with pytest.raises(ReadError, match=refusal):
        running_plan(plan.config, plan.data_dir)
    with pytest.raises(JournalError, match=refusal):
        take_snapshot(plan, 0)
    supervisor = Supervisor(plan, print, ROLES)
    with pytest.raises(ServeError, match=refusal):
        supervisor.start()
    supervisor.stop()
    for command in ("status", "snapshot", "trades"):
        assert main([command, "--data-dir", str(plan.data_dir)]) == FAILURE
        assert why in capsys.readouterr().err
    assert os.path.lexists(plan.run_dir)
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != "lock"] == before


def test_no_path_is_taken_from_shared_memory(plan: Plan, tmp_path: Path) -> None:
    """Whoever can write there could otherwise have the journal brought to where he likes."""
    plan.run_dir.mkdir(mode=0o700)
    archive = tmp_path / "theirs"
    journal = msgspec.structs.replace(plan.config.journal, archive=str(archive))
    theirs = msgspec.structs.replace(plan.config, journal=journal)
    for name in ("config.json", "running.json"):
        (plan.run_dir / name).write_bytes(msgspec.json.encode(theirs))
    assert running_plan(plan.config, plan.data_dir).config == plan.config
    assert segments_of(plan.journal_dir(0))


def test_a_pipe_in_a_mappings_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "link").symlink_to(tmp_path / "whole")
    create_mapping(tmp_path / "whole", "test", LAYOUT, 1, 8)
    found: list[str] = []

    def look() -> None:
        for name in ("pipe", "link"):
            with pytest.raises(MappingError) as refused:
                open_mapping(tmp_path / name, "test", LAYOUT)
            found.append(str(refused.value))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(30)
    assert found == [
        f"{tmp_path / 'pipe'}: is no file",
        f"{tmp_path / 'link'}: Too many levels of symbolic links",
    ]


def test_a_directory_of_ones_own_is_taken(plan: Plan) -> None:
    check_run_directory(plan.run_dir)
    plan.run_dir.mkdir(mode=0o700)
    check_run_directory(plan.run_dir)


@pytest.mark.parametrize(
    ("umask", "directories", "log"), [("077", 0o700, 0o600), ("027", 0o750, 0o640)]
)
def test_what_is_made_is_for_those_alone_who_may(
    tmp_path: Path, umask: str, directories: int, log: int
) -> None:
    before = os.umask(0o022)
    try:
        extra = f'umask = "{umask}"\n[journal]\narchive = "{tmp_path}/archive"'
        config = make_config(1, 1, extra)
        with running(config, tmp_path / "data") as plan:
            with Wire(plan, "alice") as wire:
                cross(wire)
            command = [sys.executable, "-m", "frontend", "snapshot", "--data-dir", plan.data_dir]
            subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
            made = {
                path: stat.S_IMODE(path.lstat().st_mode)
                for path in [plan.data_dir, *plan.data_dir.rglob("*")]
                if not path.is_socket()
            }
    finally:
        os.umask(before)
    for path, mode in made.items():
        assert mode in ({directories} if path.is_dir() else {log, 0o600}), path
    assert made[plan.log_dir / "trades.ndjson"] == log
