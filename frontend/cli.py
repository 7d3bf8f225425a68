"""The command line: ``shardbook serve``, ``demo``, ``replay``, and what reads a running product.

Each command's work is done in a room of its own, which is imported when the command is given: so
that ``--help`` and mistakes answer at once. A mistake is one line on stderr and exit code 2, a
failure one line and exit code 1; a signal that asks to end ends it with 128 and its number, as
Ctrl-C with 130, a closed pipe with 0, both without a word.
"""

if __name__ == "__main__":
    import frontend.at_once  # noqa: F401

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from engine.children import heeded
from engine.outlet import fill_standard_descriptors, open_outlets
from engine.printable import printable
from ipc.decimals import NumberError, read_decimal, shown, whole_number

if TYPE_CHECKING:
    from engine.config import Config
    from engine.verify import Verdict
    from frontend.reading import Reader
    from frontend.rows import RowWriter

USAGE, FAILURE = 2, 1
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a file may answer that standard output goes to."""
MAX_LIMIT = 1_000_000
WATCH_S = 1.0


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"shardbook: {printable(message)} (see {self.prog} --help)\n")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    fill_standard_descriptors()
    try:
        code = _run(arguments)
    except KeyboardInterrupt as told:
        code = 128 + (told.number if isinstance(told, _ToldToEnd) else signal.SIGINT)
    _settle(sys.stdout)
    _settle(sys.stderr)
    return code


def _run(arguments: list[str] | None) -> int:
    try:
        options = _parser().parse_args(arguments)
        run: Callable[[argparse.Namespace], int] = options.run
        code = run(options)
        sys.stdout.flush()
    except SystemExit as end:  # the parser has said why
        return int(end.code or 0)
    except BrokenPipeError:
        return 0  # whoever read has seen enough
    except Exception as error:
        code = _expected(error)
        if not code:
            raise
        with suppress(OSError):  # there is nobody to tell
            print(f"shardbook: {printable(str(error))}", file=sys.stderr, flush=True)
    return code


def _settle(stream: TextIO) -> None:
    """See to it that what could not be written does not fail once more at exit."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        stream.flush()


def _expected(error: Exception) -> int:
    """Return the exit code of an error that is told in a line; 0: it is a defect of ours."""
    from engine.config import ConfigError
    from engine.history.destination import HistoryError
    from engine.journal.format import JournalError
    from engine.places import PlaceError
    from engine.supervisor import ServeError
    from engine.trade_log.log import TradeLogError
    from frontend.client.errors import ClientError
    from frontend.demo.load import DemoError
    from frontend.reading import ReadError, UnknownSymbolError
    from frontend.replay.flow_file import FlowFileError
    from frontend.replay.sender import ReplayError
    from ipc.links.sockets import AddressError

    if isinstance(
        error, ConfigError | AddressError | FlowFileError | ReplayError | UnknownSymbolError
    ):
        return USAGE
    if isinstance(error, DemoError | ClientError | ReadError):
        return FAILURE
    if isinstance(error, HistoryError | JournalError | PlaceError | ServeError | TradeLogError):
        return FAILURE
    if isinstance(error, FileNotFoundError):  # such as a directory for temporary files
        return FAILURE
    if isinstance(error, OSError) and (error.filename is not None or error.errno in NO_ROOM):
        return FAILURE
    return 0


# The commands -----------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    from engine.environment import with_environment

    config = with_environment(_config(options), os.environ)
    data_dir = _place(options, config)
    os.umask(config.file_mask())
    with suppress(OSError):  # which the start tells of
        data_dir.mkdir(parents=True, exist_ok=True)
    from engine.plan import Plan
    from engine.supervisor import serve
    from frontend.roles import ROLES

    open_outlets()
    return serve(Plan(config, data_dir), _say, ROLES)


def _warm(options: argparse.Namespace) -> int:
    from ipc.native import code_cache

    if options.cache is not None:
        os.environ[code_cache.VARIABLE] = str(options.cache.absolute())
        if problem := code_cache.problem_of(options.cache):
            print(f"shardbook: {options.cache}: {problem}", file=sys.stderr)
            return FAILURE
    from engine.warm_apart import warm_apart
    from frontend.roles import ROLES
    from ipc.native.compiled import HAVE_NUMBA

    if not HAVE_NUMBA:
        _say("numba is missing: there is nothing to compile")
        return 0
    warm_apart("ladder", ROLES.warm, lambda text: _say(f"compiling {text}"))
    if options.cache is not None:
        _say(f"done; with {code_cache.VARIABLE}={options.cache.absolute()} all commands find it")
    return 0


def _key(options: argparse.Namespace) -> int:
    from frontend.gateway.keys import key_section, new_key

    key = new_key()
    print(f"The key of {options.user}, shown this once: {key}", file=sys.stderr)
    print(key_section(options.user, key))
    return 0


def _demo(options: argparse.Namespace) -> int:
    from frontend.demo.run import run_demo

    with _unwinding():
        return run_demo(options.seconds, options.symbols, options.seed, sys.stdout)


def _replay(options: argparse.Namespace) -> int:
    from frontend.replay.run import replay

    with _unwinding():
        config = _config(options) if options.config else None
        summary = replay(options.files, options.connect, config, options.fills, options.speed, _say)
        for line in summary.lines():
            _say(line)
    return 0


def _trades(options: argparse.Namespace) -> int:
    with _unwinding(), _reader(options) as reader:
        from frontend.rows import TRADE_FIELDS, trade_rows
        from frontend.show import follow_trades, print_trades

        if options.follow:
            rows = _rows(options, TRADE_FIELDS)
            follow_trades(reader, options.symbol, options.limit, sys.stdout, rows)
            return 0
        trades = reader.trades(options.symbol, options.limit)
        rows = _rows(options, TRADE_FIELDS)
        if rows is None:
            print_trades(trades, reader.instruments, sys.stdout)
        else:
            rows.write(trade_rows(trades, reader.instruments))
    return 0


def _book(options: argparse.Namespace) -> int:
    with _unwinding(), _reader(options) as reader:
        from frontend.rows import BOOK_FIELDS, book_rows
        from frontend.show import print_book

        book = reader.book(options.symbol, options.depth)
        rows = _rows(options, BOOK_FIELDS)
        if rows is None:
            print_book(book, sys.stdout)
        else:
            rows.write(book_rows(book))
    return 0


def _order(options: argparse.Namespace) -> int:
    with _unwinding(), _reader(options) as reader:
        from frontend.rows import order_row
        from frontend.show import print_order

        order = reader.order(options.order_id)
        if order is None:
            print(f"shardbook: order {options.order_id} is not known here", file=sys.stderr)
            return FAILURE
        user_id = reader.user_of(int(order["account"]))
        row = order_row(order, reader.instruments[int(order["symbol"])], user_id)
        rows = _rows(options)
        if rows is None:
            print_order(row, sys.stdout)
        else:
            rows.write([row])
    return 0


def _status(options: argparse.Namespace) -> int:
    with _unwinding(), _reader(options) as reader:
        from frontend.rows import process_rows
        from frontend.show import print_status, watch_status

        rows = _rows(options)
        if options.watch:
            watch_status(reader, WATCH_S, sys.stdout, rows)
        elif rows is None:
            print_status(reader.status(), sys.stdout)
        else:
            rows.write(process_rows(reader.status()))
    return 0


def _rows(options: argparse.Namespace, fields: "Sequence[str]" = ()) -> "RowWriter | None":
    """Return what writes rows in the form that is asked for; None for text to read."""
    from frontend.rows import RowWriter

    return RowWriter(options.form, sys.stdout, fields) if options.form else None


def _snapshot(options: argparse.Namespace) -> int:
    config = _config(options)
    data_dir = _place(options, config)
    from engine.places import check_owner
    from engine.shard.snapshot_schedule import step_back
    from engine.shard.snapshotter import take_snapshot
    from frontend.reading import running_plan

    plan = running_plan(config, data_dir)
    check_owner(plan)
    step_back(plan, late=True)  # somebody waits for it
    os.umask(plan.config.file_mask())
    with _unwinding():
        for shard in plan.shards:
            taken = take_snapshot(plan, shard)
            if taken.path is None:
                _say(f"shard {shard}: nothing new")
            else:
                _say(
                    f"shard {shard}: {taken.path}: {taken.resting_orders} resting orders, "
                    f"{taken.commands} commands since the last; {taken.removed} older files removed"
                )
    return 0


def _verify(options: argparse.Namespace) -> int:
    from engine.verify import verify

    with _unwinding():
        return _judge(verify(options.directory, options.log), "all whole")


def _recover(options: argparse.Namespace) -> int:
    from engine.accept_loss import accept_loss
    from engine.listing import plan_of
    from engine.places import check_owner
    from engine.verify import dry_run

    plan = plan_of(_with_database(_config(options)), options.data_dir, damaged=True)
    os.umask(plan.config.file_mask())
    with _unwinding():
        if options.dry_run:
            return _judge(dry_run(plan), "a start would go on from here")
        check_owner(plan)
        for line in accept_loss(plan).lines:
            _say(line)
    return 0


def _history(options: argparse.Namespace) -> int:
    config = _with_database(_config(options))
    data_dir = _place(options, config)
    from frontend import history_commands
    from frontend.reading import running_plan

    plan = running_plan(config, data_dir)
    with _unwinding():
        if options.action == "migrate":
            return history_commands.history_migrate(plan, sys.stdout)
        if options.action == "status":
            return history_commands.history_status(
                plan, options.source, sys.stdout, as_json=options.json
            )
        if options.action == "verify":
            verdict = history_commands.history_verify(plan, options.source)
            return _judge(verdict, "no difference")
        return history_commands.history_query(plan, options, sys.stdout)


def _judge(verdict: "Verdict", well: str) -> int:
    for line in verdict.lines:
        _say(line)
    _say(f"{verdict.problems} problems" if verdict.problems else well)
    return FAILURE if verdict.problems else 0


def _config(options: argparse.Namespace) -> "Config":
    from engine.config import load_config

    return load_config(options.config)


def _with_database(config: "Config") -> "Config":
    """Return a configuration with what the environment says of the database."""
    from engine.environment import with_environment

    database = {name: text for name, text in os.environ.items() if name.startswith("DATABASE_")}
    return with_environment(config, database)


def _place(options: argparse.Namespace, config: "Config") -> Path:
    """Return the data directory; machine code is kept in it where numba has no place.

    To be called before what is compiled is imported.
    """
    from ipc.native import code_cache

    data_dir: Path = options.data_dir or Path(config.data_dir)
    code_cache.prefer(data_dir.absolute() / "cache")
    return data_dir


def _reader(options: argparse.Namespace) -> "Reader":
    config = _config(options)
    data_dir = _place(options, config)
    from frontend.reading import Reader, running_plan

    return Reader(running_plan(config, data_dir))


def _say(line: str) -> None:
    print(printable(line), flush=True)


class _ToldToEnd(KeyboardInterrupt):
    """A signal asked this program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _unwinding() -> Iterator[None]:
    """Have a signal end the block, and others wait until that has undone what it did."""

    def unwind(number: int, _: object) -> NoReturn:
        for other in handlers:
            signal.signal(other, signal.SIG_IGN)
        raise _ToldToEnd(number)

    handlers = {number: signal.getsignal(number) for number in heeded()}
    try:
        for number in handlers:
            signal.signal(number, unwind)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


# What they take ---------------------------------------------------------------------------------


class _Version(argparse.Action):
    """Prints the version, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from frontend.version import product_version

        print(f"shardbook {product_version()}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="shardbook",
        description="A sharded limit order book matching engine.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show it and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> Any:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(run=run)
        return added

    _add_place(command("serve", _serve, "Run the engine until Ctrl-C or SIGTERM."))

    warm = command("warm", _warm, "Compile ahead, so that no start has to: for images.")
    warm.add_argument(
        "--cache", type=Path, metavar="DIR", help="keep it there, for SHARDBOOK_CACHE=DIR"
    )

    demo = command("demo", _demo, "Run the engine under a simulated market, and check it.")
    demo.add_argument("--seconds", type=_seconds, default=10.0, metavar="N", help="default 10")
    demo.add_argument("--symbols", type=_whole(1, 1_000), default=4, metavar="N", help="default 4")
    demo.add_argument("--seed", type=_whole(0, 2**63 - 1), metavar="N", help="default: a new one")

    _add_replay(command("replay", _replay, "Send recorded order flows to an engine."))

    trades = command("trades", _trades, "Show the last trades.")
    trades.add_argument("--symbol", metavar="S", help="of one symbol; default: of all")
    trades.add_argument(
        "--limit", type=_whole(0, MAX_LIMIT), default=20, metavar="N", help="default 20"
    )
    trades.add_argument("--follow", action="store_true", help="and then every trade as it comes")
    _add_form(trades)
    _add_place(trades)

    book = command("book", _book, "Show the best price levels of a symbol.")
    book.add_argument("symbol", metavar="SYMBOL")
    book.add_argument(
        "--depth", type=_whole(1, 1_024), default=10, metavar="N", help="levels a side; default 10"
    )
    _add_form(book)
    _add_place(book)

    order = command("order", _order, "Show one order.")
    order.add_argument("order_id", type=_whole(1, 2**53 - 1), metavar="ID")
    _add_form(order)
    _add_place(order)

    key = command("key", _key, "Make an API key; print what to add to the configuration.")
    key.add_argument("user", type=_user, metavar="USER")

    status = command("status", _status, "Show each process: place, state, counters, lag.")
    status.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C")
    _add_form(status)
    _add_place(status)

    _add_place(command("snapshot", _snapshot, "Take a snapshot of each shard, running or not."))

    verify = command("verify", _verify, "Check journals, snapshots and trade log, byte by byte.")
    verify.add_argument("directory", type=Path, metavar="DIR", help="a data directory")
    verify.add_argument(
        "--log", type=Path, metavar="DIR", help="where the trade log lies elsewhere"
    )

    _add_history(command("history", _history, "Read the history, and check it."))

    recover = command("recover", _recover, "Look at what a start would do, or accept a loss.")
    how = recover.add_mutually_exclusive_group(required=True)
    how.add_argument("--dry-run", action="store_true", help="show it, and change nothing")
    how.add_argument(
        "--accept-loss", action="store_true", help="go on without what a start is refused for"
    )
    _add_place(recover)
    return parser


def _add_replay(parser: argparse.ArgumentParser) -> None:
    """Add what a replay is told."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="CSV, plain or gzip")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--connect", metavar="ADDRESS", help="unix:PATH or tcp:HOST:PORT")
    where.add_argument("--config", type=Path, metavar="FILE", help="of the engine to start")
    parser.add_argument("--fills", type=Path, metavar="OUT.csv", help="where to write the fills")
    parser.add_argument(
        "--speed",
        type=_speed,
        default="max",
        metavar="N|max",
        help="times the recorded speed; default max",
    )


def _add_history(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with a history."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status = actions.add_parser("status", help="how far it goes, and what it lacks")
    status.add_argument("--json", action="store_true")
    verify = actions.add_parser("verify", help="hold it against journals and trade log")
    migrate = actions.add_parser("migrate", help="make or renew the tables of the database")
    query = actions.add_parser("query", help="print orders or trades, newest first")
    query.add_argument("what", choices=("orders", "trades"))
    query.add_argument("--order-id", type=_whole(1, 2**53 - 1), metavar="ID", help="one order")
    query.add_argument("--symbol", metavar="S")
    query.add_argument("--user", type=_user, metavar="USER")
    words = ("OPEN", "PARTIAL", "FILLED", "CANCELLED", "UNKNOWN")
    query.add_argument("--status", action="append", choices=words, help="of orders; repeatable")
    query.add_argument("--from", type=_time, dest="start", default=0, metavar="T")
    query.add_argument("--to", type=_time, dest="end", default=1 << 63, metavar="T")
    query.add_argument("--limit", type=_whole(1, 1 << 40), default=100, metavar="N")
    how = query.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="a JSON object a line")
    how.add_argument("--csv", action="store_true")
    for action in (status, verify, query):
        action.add_argument(
            "--source", choices=("sqlite", "postgres"), help="default: what is kept; SQLite first"
        )
    for action in (status, verify, migrate, query):
        _add_place(action)


def _time(text: str) -> int:
    from frontend.times import TIME_RULE, nanoseconds
    from ipc.decimals import shown

    found = nanoseconds(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{shown(text)} {TIME_RULE}")
    return min(found, 1 << 63)


def _add_form(parser: argparse.ArgumentParser) -> None:
    """Add the options that say in which form something is shown."""
    forms = parser.add_mutually_exclusive_group()
    for form, text in (("json", "an object of JSON a line"), ("csv", "CSV with a header")):
        forms.add_argument(
            f"--{form}", dest="form", action="store_const", const=form, help=f"as {text}"
        )


def _add_place(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which product is meant."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: the one that ships")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="default: data_dir of the configuration"
    )


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            return whole_number(text, low, high)
        except NumberError as error:
            raise argparse.ArgumentTypeError(f"{shown(text)} {error}") from None

    return read


def _user(text: str) -> str:
    if not 1 <= len(text) <= 64 or not text.isprintable() or set(text) & {'"', "\\"}:
        raise argparse.ArgumentTypeError(
            f'{shown(text)} must be 1 to 64 characters, none of them " or \\'
        )
    return text


def _seconds(text: str) -> float:
    value = _number(text, "must be 0.1 to 86400 seconds")
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{shown(text)} must be 0.1 to 86400 seconds")
    return value


def _speed(text: str) -> float | str:
    if text.lower() == "max":
        return "max"
    value = _number(text, "must be a number above 0, or max")
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{shown(text)} must be above 0, or max")
    return value


def _number(text: str, rule: str) -> float:
    try:
        read_decimal(text)
    except NumberError:
        raise argparse.ArgumentTypeError(f"{shown(text)} {rule}") from None
    return float(text)


if __name__ == "__main__":
    raise SystemExit(main())
