"""Where the machine code of compiled functions is kept.

numba keeps it beside the source or in the user's home. Where neither can be written, as in most
containers, it is kept in the first of these that can: the directory that ``prefer`` named, such as
one in a data directory; one of this user's own for temporary files. What lies ready, compiled
ahead by somebody else, is copied there first. ``SHARDBOOK_CACHE`` names a directory instead of all
that; where that cannot be written it is what lies ready.

Machine code is run as it is found: a directory is used only if nobody but this user can write it.
"""

import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

VARIABLE = "SHARDBOOK_CACHE"
"""Environment variable, for users: the directory to keep machine code in."""

FOUND_VARIABLE = "SHARDBOOK_CACHE_FOUND"
"""Environment variable: the directory that a process has found, for those that it starts."""

_PATTERNS = ("*.nbc", "*.nbi")
"""numba's files, an index after what it names."""


class NotKeptError(RuntimeError):
    """Something would have to be compiled."""


logger = logging.getLogger("shardbook")
_preferred: list[Path] = []
_found: list[Path | None] = []
"""Where to keep it if not where numba would, once that was asked; None: nowhere."""
_filled: set[Path] = set()
_unkept: list[str] = []
"""Functions whose machine code has no place."""


def prefer(directory: Path) -> None:
    """Name a directory for machine code that numba has no place for; it is made when needed.

    To be called before anything that is compiled is imported.
    """
    _preferred[:] = [directory]


def kept(function: Any, options: dict[str, Any]) -> Any:
    """Return a function that is compiled on its first call, its machine code kept where it can be.

    ``options`` are numba's.
    """
    import numba

    njit: Any = numba.njit
    named = os.environ.get(VARIABLE)
    source = Path(function.__code__.co_filename)
    if not source.exists():  # numba keeps nothing of what is in no file
        return _not_kept(function, options)
    if not named:
        with suppress(RuntimeError):  # numba has no place for it
            return _distrusting(njit(cache=True, **options)(function))
    directory = Path(named) if named and not problem_of(Path(named)) else _find()
    if directory is None:
        return _not_kept(function, options)
    with _kept_in(directory):
        made = _distrusting(njit(cache=True, **options)(function))
    place = Path(made.stats.cache_path)
    if place not in _filled:
        _filled.add(place)
        _fill(
            place, [source.parent / "__pycache__", *([Path(named) / place.name] if named else [])]
        )
    return made


def keeps_all() -> bool:
    """Return whether what one process compiles is there for the next."""
    return not _unkept


@contextmanager
def only_kept() -> Iterator[None]:
    """Let nothing be compiled meanwhile: what is not kept raises ``NotKeptError``."""
    from numba.core import event

    class Refusal(event.Listener):
        def on_start(self, event: Any) -> None:
            raise NotKeptError(str(event.data["dispatcher"]))

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Refusal()):
        yield


def _not_kept(function: Any, options: dict[str, Any]) -> Any:
    import numba

    _unkept.append(function.__qualname__)
    njit: Any = numba.njit
    return njit(**options)(function)


def _distrusting(made: Any) -> Any:
    """Have a file that numba cannot read replaced, instead of failing."""
    cache = made._cache
    load = cache.load_overload

    def load_overload(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except Exception as error:
            logger.warning("what is kept of %s cannot be read: %r", made.__qualname__, error)
            cache.flush()
            return None

    cache.load_overload = load_overload
    return made


@contextmanager
def _kept_in(directory: Path) -> Iterator[None]:
    """Let numba keep what is decorated meanwhile in a directory."""
    import numba

    config: Any = numba.config
    former, config.CACHE_DIR = config.CACHE_DIR, str(directory)
    try:
        yield
    finally:
        config.CACHE_DIR = former


def _find() -> Path | None:
    """Return where to keep machine code that numba has no place for; None: nowhere."""
    if not _found:
        told = os.environ.get(FOUND_VARIABLE)
        places = [Path(told)] if told else [*_preferred, *_temporary()]
        directory = next((place for place in places if _is_own(place)), None)
        _found.append(directory)
        if directory is None:
            logger.warning(
                "there is no directory to keep machine code in, so each start compiles it; "
                "set %s to one, filled by `shardbook warm --cache DIR` or writable", VARIABLE
            )  # fmt: skip
        elif not told:
            os.environ[FOUND_VARIABLE] = str(directory)
            logger.warning(
                "machine code is kept in %s: neither the installed code nor a home directory can "
                "be written", directory
            )  # fmt: skip
    return _found[0]


def _temporary() -> list[Path]:
    try:
        return [Path(tempfile.gettempdir()) / f"shardbook-cache-{os.getuid()}"]
    except FileNotFoundError:
        return []


def _is_own(directory: Path) -> bool:
    """Make a directory if need be; return whether this user alone can write it."""
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError:
        return False
    found = directory.lstat()
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.getuid()
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and not problem_of(directory)
    )


def problem_of(directory: Path) -> str:
    """Make a directory if need be; return why it cannot be written, or nothing."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _fill(place: Path, ready: list[Path]) -> None:
    """Copy what lies ready and is newer. Where that fails it is compiled."""
    for source in ready:
        for pattern in _PATTERNS:
            for file in source.glob(pattern):
                with suppress(OSError):
                    _copy(file, place / file.name)


def _copy(file: Path, target: Path) -> None:
    if target.exists() and target.stat().st_mtime_ns >= file.stat().st_mtime_ns:
        return
    aside = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        shutil.copy2(file, aside)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
