"""Where a product keeps things: its directories, sockets and shared memory, made and removed.

Mappings and inner sockets lie in the *run directory*, which is one in /dev/shm where that has room
for all that they may come to hold. Where it has not, it is a link to ``run`` in the data directory,
whose file system then holds them.
"""

import os
import shutil
from pathlib import Path

from engine.plan import Plan
from ipc.links.sockets import AddressError, check_path
from ipc.memory.mapping import SHARED_MEMORY
from ipc.records import REPORT, TABLE_ENTRY, TRADE

ORDER_BYTES = TABLE_ENTRY.itemsize + 24
"""Shared memory of one order: its entry, its links, its part of the index."""


class PlaceError(RuntimeError):
    """Something cannot be where it should; the text names the path and says why."""


def make_directories(plan: Plan) -> None:
    """Make data directory and log directory, and verify that nothing else has a name in them.

    Raises ``PlaceError``.
    """
    where = f"data directory {plan.data_dir}"
    for path in (plan.data_dir, plan.log_dir):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PlaceError(f"{where}: {_reason(path, error)}") from None
    for path in (plan.data_dir / "journal", *map(plan.journal_dir, plan.shards)):
        if path.exists() and not path.is_dir():
            raise PlaceError(f"{where}: {path} must be a directory, and is a file")
    for path in (plan.lock_path, plan.log_dir / "trades.ndjson", *plan.accounts_paths()):
        if path.exists() and not path.is_file():
            raise PlaceError(f"{where}: {path} must be a file")
    for name in plan.socket_paths():
        try:
            check_path(name)
        except AddressError as error:
            raise PlaceError(
                f"{name}: {error}; name a shorter frontend.socket or data directory"
            ) from None


def check_owner(plan: Plan) -> None:
    """Refuse to write into the data directory of another user's product, which root could.

    That product could neither read nor remove what it finds there. Raises ``PlaceError``.
    """
    try:
        owner = plan.lock_path.stat().st_uid
    except OSError:
        return  # no product has run there, or this user may not look
    if owner != os.geteuid():
        raise PlaceError(
            f"data directory {plan.data_dir}: the product in it is of user {owner}, who could not "
            f"use what user {os.geteuid()} writes there; run this as user {owner}"
        )


def _reason(path: Path, error: OSError) -> str:
    """Return why a directory cannot be made, with the path that is in its way."""
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            return f"{part} must be a directory, and is a file"
    return f"{path}: {error.strerror}"


def make_run_directory(plan: Plan) -> str:
    """Make the run directory, empty; return what its user should know of it, or nothing.

    Room is needed for all that may come to lie in it: order tables take theirs as they fill, and
    running out then would halt a shard. Raises ``PlaceError``.
    """
    remove_run_directory(plan)
    needed = _needed_bytes(plan)
    files = plan.data_dir / "run"
    try:
        plan.run_dir.mkdir(parents=True, mode=0o700)
        memory, shared = available_bytes(), _free_bytes(plan.run_dir)
        if needed <= min(memory, shared):
            return ""
        if needed > memory or plan.run_dir == files:
            raise _no_room(plan, needed, f"{min(memory, shared) >> 20} MB are free")
        files.mkdir(mode=0o700)
        disk = _free_bytes(files)
        if needed > disk:
            found = f"{shared >> 20} MB are free, and {disk >> 20} MB in {plan.data_dir}"
            raise _no_room(plan, needed, found)
        plan.run_dir.rmdir()
        plan.run_dir.symlink_to(files)
    except OSError as error:
        raise PlaceError(f"{error.filename}: {error.strerror}") from None
    return (
        f"{SHARED_MEMORY} has {shared >> 20} MB, and {needed >> 20} MB of shared memory may be "
        f"used: it lies in files in {files}. The kernel writes what changes in them to that disk, "
        f"which costs its rate and can hold up matching; with a larger {SHARED_MEMORY} "
        "(docker run --shm-size) it need not"
    )


def _no_room(plan: Plan, needed: int, found: str) -> PlaceError:
    return PlaceError(
        f"{plan.run_dir}: {needed >> 20} MB of shared memory are needed, {found}; lower "
        "max_resting_orders, ended_orders, ring_trades, ring_reports "
        "or kept_reports"
    )


def remove_run_directory(plan: Plan) -> None:
    """Remove the run directory, with what a product of former times has left in it."""
    if plan.run_dir.is_symlink():
        plan.run_dir.unlink()
    shutil.rmtree(plan.run_dir, ignore_errors=True)
    shutil.rmtree(plan.data_dir / "run", ignore_errors=True)


def _needed_bytes(plan: Plan) -> int:
    engine = plan.config.engine
    tables = 1 + plan.config.history.sqlite + plan.config.database.enabled  # exporters have theirs
    orders = tables * sum(map(plan.table_capacity, plan.shards))
    reports = engine.ring_reports + engine.kept_reports
    rings = engine.ring_trades * TRADE.itemsize + reports * REPORT.itemsize
    return orders * ORDER_BYTES + rings * len(plan.shards)


def _free_bytes(directory: Path) -> int:
    space = os.statvfs(directory)
    return space.f_bavail * space.f_frsize


def available_bytes() -> int:
    """Return how much memory the machine can still give, as Linux estimates it."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
