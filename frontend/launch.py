"""A product started for the length of a ``with`` block, in a process of its own."""

import multiprocessing
import select
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path

from engine.children import starting
from engine.config import Config, ConfigError
from engine.outlet import open_outlets
from engine.plan import Plan
from engine.roles import RoleTable
from engine.supervisor import ServeError, serve
from frontend.reading import running_plan
from frontend.roles import roles_of

STOP_S = 60.0


@contextmanager
def running_engine(
    config: Config,
    data_dir: Path,
    announce: Callable[[str], None] | None = None,
    context: BaseContext | None = None,
    roles: RoleTable | None = None,
    shards: Iterable[int] | None = None,
) -> Iterator[Plan]:
    """Start the product and give its plan once it is ready; drain it at the end.

    It consists of ``roles``, of those of its configuration where none are given, and has ``shards``
    of those that the configuration names, or each. What it announces goes to ``announce``.
    ``context`` makes its process, and spawns it where none is given. Raises ``ServeError`` where it
    does not start, or does not end well.
    """
    roles = roles or roles_of(config)
    context = context or multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(  # type: ignore[attr-defined]
        target=_serve, args=(Plan(config, data_dir, shards), theirs, roles), name="shardbook"
    )
    with starting():
        process.start()
    theirs.close()
    failure: BaseException | None = None
    try:
        _until_ready(ours, announce)
        yield running_plan(config, data_dir)
    except BaseException as error:
        failure = error
        raise
    finally:
        process.terminate()  # that is SIGTERM: it drains
        cause = _drain(ours, announce)
        process.join(STOP_S)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        if code != 0 and not isinstance(failure, ServeError):
            # What the block met is but the consequence of this.
            text = cause or f"the engine ended with exit code {code}"
            raise ServeError(text) from failure


def _serve(plan: Plan, lines: Connection, roles: RoleTable) -> None:
    """Run in the process of its own; every announcement that finds room goes through the pipe."""
    open_outlets()

    def announce(line: str) -> None:
        with suppress(OSError):  # nobody listens any more
            if select.select([], [lines], [], 0)[1]:
                lines.send(line)

    try:
        code = serve(plan, announce, roles)
    except (ServeError, ConfigError) as error:
        announce(f"error: {error}")
        code = 1
    raise SystemExit(code)


def _until_ready(lines: Connection, announce: Callable[[str], None] | None) -> None:
    while True:
        try:
            line = lines.recv()
        except EOFError:
            raise ServeError("the engine ended before it was ready") from None
        if line.startswith("error: "):
            raise ServeError(line.removeprefix("error: "))
        if announce is not None:
            announce(line)
        if line == "ready":
            return


def _drain(lines: Connection, announce: Callable[[str], None] | None) -> str:
    """Pass on what is still announced; return the error that was among it."""
    error = ""
    try:
        while True:
            line = lines.recv()
            if line.startswith("error: "):
                error = line.removeprefix("error: ")
            elif announce is not None:
                announce(line)
    except EOFError:
        return error
