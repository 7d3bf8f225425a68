"""Three API nodes, two of them far away: is what they show what there is, whoever dies?

    python -m bench.node_kills [--kills 100] [--changes 20000] [--seed N]

Eight users enter and cancel orders through all nodes, and follow depth and trades of a symbol on
each by WebSocket, anew where that ends, until the book has changed as often as told. Meanwhile the
exporter, Redis (which comes back empty) and nodes are killed, and two nodes, which see none of the
product's memory and files (root can have it so), are cut off. Each state of a book that a stream
showed is held against what the journal comes to at that command; trades must come in order, each
once, and none may be missing within a connection; and at rest all nodes must show the books, orders
and trades that the product's own worker shows. Exit code 1 where there is a difference.
"""

import argparse
import http.client
import os
import random
import secrets
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from websockets.exceptions import ConnectionClosed

from bench.kill_product import PATIENCE_S, Product, StuckError
from engine.cache.names import Names
from engine.plan import Plan
from engine.roles import REDIS
from engine.shard.follower import Follower
from engine.shard.holds import hold
from ipc.memory.status import ProcessStatus, StatusReader
from ipc.records import LEVEL
from ipc.vocabulary import Side
from tests.http import API, Http, free_port, http_section
from tests.nodes import Node, is_ready, node_plan
from tests.product import config_text
from tests.redis_server import RedisServer, redis_running
from tests.test_http_socket import Rebuilt, Ws

SYMBOLS = ("AA", "BB", "CC", "DD")
FOLLOWED = "AA"
USERS = 8
CUT_S = 1.0
PAUSE_S = 2.0
"""Between two kills at the most."""
_FAILED = (OSError, http.client.HTTPException, AssertionError)


class Wire:
    """Carries what goes to a port of this machine, and nothing while it is cut: no word of it."""

    def __init__(self, to_port: int) -> None:
        self.port = free_port()
        self._to_port, self._cut = to_port, threading.Event()
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Carry nothing for the length of the block."""
        self._cut.set()
        try:
            yield
        finally:
            self._cut.clear()

    def _accept(self) -> None:
        while True:
            near, _ = self._listening.accept()
            threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        self._wait()
        try:
            far = socket.create_connection(("127.0.0.1", self._to_port))
        except OSError:
            near.close()
            return
        for ends in ((near, far), (far, near)):
            threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._wait()
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _wait(self) -> None:
        while self._cut.is_set():
            time.sleep(0.005)


class Site(NamedTuple):
    """A product with Redis, and nodes, two of which reach both by wires and see none of its
    memory and files."""

    server: RedisServer
    product: Product
    nodes: list[Node]
    wires: tuple[Wire, Wire]
    restart: Callable[[int], None]

    @property
    def plan(self) -> Plan:
        """The product's, with its own worker's address."""
        return self.product.plan

    def node(self, number: int) -> Plan:
        """Return a plan whose HTTP is a node's."""
        return node_plan(self.plan, self.nodes[number])


@contextmanager
def site() -> Iterator[Site]:
    """Run all of it."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="sb-")))
        server = stack.enter_context(redis_running())
        entry, ports = free_port(), [free_port() for _ in range(4)]
        text = f'{server.text()}[frontend]\ntcp = "127.0.0.1:{entry}"\n'
        (directory / "product").mkdir()
        product = Product(
            config_text(2, 4, text + http_section(ports[3], 1)), directory / "product"
        )
        stack.callback(product.end)
        product.start()
        wires = Wire(server.port), Wire(entry)
        near = server.text()
        far = near.replace(str(server.port), str(wires[0].port))
        apart = f'mount -t tmpfs none /dev/shm; mount -t tmpfs none {directory}/product; exec "$@"'
        under = ("unshare", "--mount", "sh", "-c", apart, "sh")
        configs = [directory / f"node-{number}.toml" for number in range(3)]
        for number, config in enumerate(configs):
            section = http_section(ports[number], 1)
            config.write_text(config_text(2, 4, (far if number else near) + section))

        def start(number: int) -> Node:
            if number:
                return Node(configs[number], ports[number], wires[1].port, under)
            return Node(configs[number], ports[number], entry)

        nodes = [start(number) for number in range(3)]
        stack.callback(lambda: [node.end() for node in nodes])

        def restart(number: int) -> None:
            nodes[number] = start(number)

        for number in range(3):
            _until(lambda number=number: is_ready(nodes[number]), "node")  # type: ignore[misc]
        yield Site(server, product, nodes, wires, restart)


class User(threading.Thread):
    """Enters and cancels orders through all nodes until told to stop; what fails is tried no more:
    what came of it shows in the end."""

    def __init__(self, place: Site, name: str, seed: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.user_id, self.entered, self.failed = name, 0, 0
        self._place, self._dice, self._over = place, random.Random(f"{seed} {name}"), stop
        self._open: list[int] = []

    def run(self) -> None:
        """Trade."""
        while not self._over.is_set():
            number = self._dice.randrange(len(self._place.nodes))
            with suppress(*_FAILED), Http(self._place.node(number)) as node:
                node.connection.timeout = 5
                for _ in range(self._dice.randint(1, 20)):
                    try:
                        self._act(node)
                    except _FAILED:
                        self.failed += 1
                        raise

    def _act(self, node: Http) -> None:
        dice, symbol = self._dice, self._dice.choice((FOLLOWED, FOLLOWED, *SYMBOLS))
        side, price = dice.choice(("buy", "sell")), dice.randrange(80, 121)
        order = node.order(self.user_id, side, dice.randrange(1, 9), price, symbol=symbol)
        self.entered += 1
        if order["status"] in ("OPEN", "PARTIAL"):
            self._open.append(order["order_id"])
        if len(self._open) > 40:
            order_id = self._open.pop(dice.randrange(len(self._open)))
            node.call("DELETE", f"{API}/orders/{order_id}?user_id={self.user_id}")


class Watcher(threading.Thread):
    """Follows a symbol's depth and trades on a node, anew where they end."""

    def __init__(self, place: Site, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.books: dict[int, tuple[Any, ...]] = {}
        """What was shown, by the command that it stood for."""
        self.trades: list[list[int]] = []
        """Of each connection."""
        self.connections = 0
        self.wrong: list[str] = []
        self._place, self._number, self._over = place, number, stop

    def run(self) -> None:
        """Follow."""
        while not self._over.is_set():
            try:
                with Ws(self._place.node(self._number), ping_interval=1, ping_timeout=3) as ws:
                    self.connections += 1
                    self._follow(ws)
            except (OSError, TimeoutError, ConnectionClosed, EOFError):
                time.sleep(0.05)
            except AssertionError as error:
                self.wrong.append(f"node {self._number}: {error}")

    def _follow(self, ws: Ws) -> None:
        for channel in ("trades", "depth"):
            ws.send(op="subscribe", channel=channel, symbol=FOLLOWED)
        trades: list[int] = []
        self.trades.append(trades)
        book = Rebuilt(_Apart(ws, trades))  # type: ignore[arg-type]
        while not self._over.is_set():
            book.next()
            shown = tuple(tuple(book.sides[side]) for side in ("bids", "asks"))
            known = self.books.setdefault(book.sequence, shown)
            assert known == shown, f"two books at command {book.sequence}"


class _Apart:
    """Gives messages of depth, and takes those of trades."""

    def __init__(self, ws: Ws, trades: list[int]) -> None:
        self._ws, self._trades = ws, trades

    def receive(self) -> Any:
        """Return the next message of depth."""
        while True:
            message = self._ws.receive()
            if message["type"] == "error":
                raise EOFError(message["error"]["code"])
            if message["type"] == "subscribed":
                continue
            if message["channel"] == "depth":
                return message
            self._trades += [trade["trade_id"] for trade in message["trades"]]


def kill(place: Site, kills: int, seed: int) -> Counter[str]:
    """Kill so often, and see who was killed return."""
    dice, killed = random.Random(seed), Counter[str]()
    for _ in range(kills):
        time.sleep(dice.random() * PAUSE_S)
        kind = dice.choice(("exporter", "redis", "node", "cut"))
        killed[kind] += 1
        if kind == "exporter":
            pid = exporter(place).pid
            os.kill(pid, signal.SIGKILL)
            _until(lambda pid=pid: exporter(place).pid not in (0, pid), "exporter")  # type: ignore[misc]
        elif kind == "redis":
            place.server.kill()
            time.sleep(dice.random() * PAUSE_S)
            place.server.start()
        elif kind == "node":
            number = dice.randrange(len(place.nodes))
            place.nodes[number].process.kill()
            place.nodes[number].process.wait()
            _until(lambda: exporter(place).counters["away"] == 0, "Redis that is written")
            place.restart(number)
        else:
            with place.wires[0].cut(), place.wires[1].cut():
                time.sleep(dice.random() * CUT_S)
    return killed


def exporter(place: Site) -> ProcessStatus:
    """Return what the exporter says of itself."""
    found = StatusReader(place.plan.status_path).processes()
    return next(process for process in found if process.role == REDIS.name)


def is_behind(exporter: ProcessStatus) -> bool:
    """Return whether an exporter has not all that there is, or does not say so yet."""
    return exporter.state != "ready" or exporter.counters["lag_commands"] > 0


def books_of(plan: Plan, commands: set[int]) -> tuple[dict[int, tuple[Any, ...]], int, list[int]]:
    """Return the book of the symbol at each of those commands, how often it changed, and its
    trades, as the journal has them."""
    [instrument] = [i for i in plan.instruments if i.symbol == FOLLOWED]
    follower = Follower(plan, instrument.shard, 0, plan.data_dir / "held")
    levels = np.zeros(plan.config.redis.depth_levels, LEVEL)
    found: dict[int, tuple[Any, ...]] = {}
    trades: list[int] = []
    changes, before = 0, None
    try:
        while (batch := follower.step(1)) is not None:
            sides = []
            for side in (Side.BUY, Side.SELL):
                count = follower.shard.book.depth(instrument.number, side, levels)
                sides.append(tuple(levels[:count].tolist()))
            if before != tuple(sides):
                changes, before = changes + 1, tuple(sides)
            if batch.position in commands:
                found[batch.position] = tuple(sides)
            of_symbol = batch.trades[batch.trades["symbol"] == instrument.number]
            trades += of_symbol["trade_id"].tolist()
    finally:
        follower.close()
    return found, changes, trades


def differences(place: Site, users: list[User], watchers: list[Watcher]) -> list[str]:
    """Return a sentence on every difference; all is at rest."""
    found = [wrong for watcher in watchers for wrong in watcher.wrong]
    wanted, changes, trades = books_of(place.plan, {n for w in watchers for n in w.books})
    places = {trade_id: place for place, trade_id in enumerate(trades)}
    for number, watcher in enumerate(watchers):
        wrong = [n for n, shown in watcher.books.items() if n and wanted.get(n) != shown]
        if wrong:
            found.append(f"node {number}: the book at command {min(wrong)} was another")
        for seen in watcher.trades:
            at_places = [places.get(trade_id, -1) for trade_id in seen]
            if at_places != list(range(at_places[0], at_places[0] + len(seen)) if seen else []):
                found.append(f"node {number}: trades were missing, repeated or out of order")
        print(
            f"node {number}: {len(watcher.books)} states of the book, "
            f"{sum(map(len, watcher.trades))} trades, {watcher.connections} connections"
        )
    print(f"{changes} changes of {FOLLOWED}, {len(trades)} trades of it")
    names = [user.user_id for user in users]
    with Http(place.plan) as worker:
        right = shown(worker, names)
    for number in range(len(place.nodes)):
        try:
            _until(lambda number=number: not _differs(place, number, names, right), "equal node")  # type: ignore[misc]
        except StuckError:
            differs = _differs(place, number, names, right)
            found.append(f"node {number} shows something else than the product at rest: {differs}")
    return found


def _differs(place: Site, number: int, names: list[str], right: dict[str, Any]) -> str:
    """Return what a node shows that is not right; nothing where all is."""
    try:
        with Http(place.node(number)) as node:
            found = shown(node, names)
    except _FAILED as error:
        return repr(error)
    wrong = [path for path in right if found[path] != right[path]]
    return f"{wrong[0]}: {found[wrong[0]]}\n not {right[wrong[0]]}"[:2_000] if wrong else ""


def shown(http: Http, users: list[str]) -> dict[str, Any]:
    """Return what is shown, but for when."""
    paths = [f"/orderbook?symbol={symbol}&depth=64" for symbol in SYMBOLS]
    paths += [f"/orders?user_id={user}&limit=500" for user in users]
    paths += [f"/trades?symbol={symbol}&limit=1000" for symbol in SYMBOLS]
    found = {path: http.get(API + path) for path in paths}
    for body in found.values():
        del body["timestamp"]
        body.pop("sequence", None)
    return found


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise StuckError(f"no {what}")
        time.sleep(0.02)


def run(kills: int, changes: int, seed: int) -> list[str]:
    """Run, kill and compare; return every difference."""
    with site() as place:
        for shard in place.plan.shards:
            hold(place.plan.journal_dir(shard), "kills", 0)  # what is compared begins with them
        stop, over = threading.Event(), threading.Event()
        users = [User(place, f"user-{n}", seed, stop) for n in range(USERS)]
        watchers = [Watcher(place, number, over) for number in range(len(place.nodes))]
        for thread in (*users, *watchers):
            thread.start()
        names, begun = Names(place.plan.config.redis.prefix), time.monotonic()
        killed = kill(place, kills, seed)
        [shard] = [i.shard for i in place.plan.instruments if i.symbol == FOLLOWED]
        position = names.of(shard).position
        client = place.server.client()

        def enough() -> bool:
            with suppress(Exception):  # Redis may be away
                return int(client.hget(position, "position") or 0) >= changes
            return False

        while not enough():
            time.sleep(0.1)
        stop.set()
        for user in users:
            user.join(PATIENCE_S)
        print(
            f"killed: {dict(killed)}; {sum(u.entered for u in users)} orders entered, "
            f"{sum(u.failed for u in users)} tries failed, in {time.monotonic() - begun:.0f} s"
        )
        _until(lambda: not is_behind(exporter(place)), "exporter at the end")
        time.sleep(1)  # watchers take what is under way
        over.set()
        with Http(place.plan) as worker:  # what wakes them
            worker.order("last", "buy", 1, "0.01", symbol=FOLLOWED)
        for watcher in watchers:
            watcher.join(5)
        return differences(place, users, watchers)


def main() -> int:
    """Run by hand."""
    parser = argparse.ArgumentParser(prog="python -m bench.node_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--changes", type=int, default=20_000, help="commands of AA's shard")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    options = parser.parse_args()
    print(
        f"repeat: python -m bench.node_kills --kills {options.kills} --changes {options.changes} "
        f"--seed {options.seed}",
        flush=True,
    )
    found = run(options.kills, options.changes, options.seed)
    for difference in found:
        print(f"WRONG: {difference}")
    print("no difference" if not found else f"{len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
