"""What is current, in Redis: exact, bounded, once, by one writer, and again where it was lost."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.cache import shard_export as exporting
from engine.cache import store as storing
from engine.cache.batch import MORE_LISTED, TICKER_FIELDS
from engine.cache.exporter import Cache
from engine.cache.link import CacheError
from engine.cache.names import Names
from engine.config import ConfigError
from engine.environment import with_environment
from engine.plan import Plan
from frontend.client import Client
from frontend.client.errors import OrderRejectedError
from ipc.vocabulary import CommandType, OrderType, Side
from tests.caching import as_it_is, export, in_redis
from tests.kept import commands_for, plan_of, recovered, write_journal
from tests.product import make_config, running, until
from tests.redis_server import RedisServer, redis_running, valkey
from tests.test_serve import served
from tests.test_snapshot import SMALL, log_trades

pytestmark = pytest.mark.servers
KILLS = int(os.environ.get("SHARDBOOK_REDIS_KILLS", "4"))
STATUS, UPDATED = 3, 9
"""Of an order of a picture."""
ENDED_WORDS = ("FILLED", "CANCELLED", "EXPIRED")
_prefixes = iter(range(1 << 30))


@pytest.fixture
def prefix() -> str:
    return f"test-{next(_prefixes)}"


def planned(directory: Path, server: RedisServer, prefix: str, more: str = "") -> Plan:
    """Return the plan of a product of one shard that is exported."""
    return plan_of(directory, SMALL + server.text(prefix, more))


def written(plan: Plan, count: int = 3_000, seed: int = 1) -> None:
    """Have a journal and its trade log."""
    write_journal(plan, commands_for(plan, count, seed))
    log_trades(plan)


@contextmanager
def exported(plan: Plan) -> Iterator[Cache]:
    cache = export(plan)
    try:
        yield cache
    finally:
        cache.close()


def test_a_filled_shard_is_as_its_journal_says(
    tmp_path: Path, redis_server: RedisServer, prefix: str
) -> None:
    plan = planned(tmp_path, redis_server, prefix)
    written(plan)
    with exported(plan) as cache:
        assert cache.shards[0].fills == 1
    found, wanted = in_redis(plan, redis_server.client()), as_it_is(plan)
    assert len(found.orders) > 1_000
    assert len(found.trades["AA"]) > 100
    assert found == wanted


def test_of_ended_orders_it_is_filled_with_the_last(
    tmp_path: Path, redis_server: RedisServer, prefix: str
) -> None:
    plan = planned(tmp_path, redis_server, prefix, "ended_orders = 50")
    written(plan)
    with exported(plan):
        found = in_redis(plan, redis_server.client())
    ended = sorted(
        order[UPDATED] for order in as_it_is(plan).orders.values() if order[STATUS] in ENDED_WORDS
    )
    kept = [order[UPDATED] for order in found.orders.values() if order[STATUS] in ENDED_WORDS]
    assert sorted(kept) == ended[-50:]


def test_while_it_is_filled_a_shard_says_so(
    tmp_path: Path, redis_server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, client = planned(tmp_path, redis_server, prefix), redis_server.client()
    written(plan)
    write, states = storing.ShardStore.write, list[str]()

    def looked(*arguments: Any) -> None:
        states.append(client.hget(Names(prefix).of(0).position, "state"))
        write(*arguments)

    monkeypatch.setattr(storing.ShardStore, "write", looked)
    with exported(plan):
        pass
    assert len(states) > 2
    assert set(states) == {"filling"}


def test_what_is_followed_comes_to_the_same(
    tmp_path: Path, redis_server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, client = planned(tmp_path, redis_server, prefix), redis_server.client()
    written(plan, 300)
    names = Names(prefix).of(0)
    monkeypatch.setattr(exporting, "BATCH_COMMANDS", 100)
    monkeypatch.setattr(exporting, "MOST_COMMANDS", 400)
    with exported(plan) as cache:
        client.pexpire(names.writer, 5_000)
        write_journal(plan, commands_for(plan, 3_000, 2), end=recovered(plan)[0].end)
        assert cache.step() > 0
        behind, lag_ns = cache.shards[0].lag()
        assert (behind, lag_ns < 90 * 10**9) == (100, True)  # since it had all, not since they came
        while cache.step():
            pass
        assert (cache.shards[0].fills, cache.shards[0].commands) == (1, 3_000)
        assert client.pttl(names.writer) > 5_000
    assert in_redis(plan, client) == as_it_is(plan)
    changes = client.xrange(names.changes)
    sizes = [int(name.partition("-")[0]) - int(fields["previous"]) for name, fields in changes[1:]]
    assert sizes[:4] == [100, 200, 400, 400]
    assert max(sizes) == 400
    numbers: dict[int, list[int]] = {}
    for key in client.scan_iter(f"{names.all}events:*"):
        account = int(key.rpartition(":")[2])
        for name, fields in client.xrange(key):
            events = json.loads(fields["events"])
            numbers.setdefault(account, []).extend(event["number"] for event in events)
            assert name == f"{events[-1]['number']}-0"
    assert len(numbers) >= 4
    for seen in numbers.values():  # none is missing, none is there twice
        assert seen == list(range(seen[0], seen[-1] + 1))
    follower_reports = recovered(plan)[0].shard.account_sequences.state()
    lasts = dict(zip(follower_reports.accounts.tolist(), follower_reports.sequences, strict=True))
    assert {account: seen[-1] for account, seen in numbers.items()} == lasts


def test_an_exporter_that_comes_again_goes_on_where_redis_is(
    tmp_path: Path, redis_server: RedisServer, prefix: str
) -> None:
    plan, client = planned(tmp_path, redis_server, prefix), redis_server.client()
    written(plan)
    with exported(plan):
        pass
    client.set(names_mark := Names(prefix).of(0).all + "mark", "stays unless all is removed")
    write_journal(plan, commands_for(plan, 500, 2), end=recovered(plan)[0].end)
    with exported(plan) as cache:
        assert (cache.shards[0].fills, cache.shards[0].commands) == (0, 500)
    assert client.exists(names_mark)
    client.delete(names_mark)
    assert in_redis(plan, client) == as_it_is(plan)
    last = client.hmget(Names(prefix).of(0).ticker("AA"), *TICKER_FIELDS[-3:])
    assert all(last)
    rests = commands_for(plan, 1, 3)
    rests["symbol"], rests["side"], rests["price"] = plan.instruments[0].number, Side.BUY, 1
    rests["order_type"], rests["command_type"] = OrderType.LIMIT, CommandType.NEW
    write_journal(plan, rests, end=recovered(plan)[0].end)
    with exported(plan):  # no trade is new: the last one is known from Redis
        pass
    assert client.hmget(Names(prefix).of(0).ticker("AA"), *TICKER_FIELDS[-3:]) == last


@pytest.mark.parametrize("count", [200, 400])
def test_where_the_journal_went_another_way_it_is_filled_anew(
    tmp_path: Path, redis_server: RedisServer, prefix: str, count: int
) -> None:
    plan = planned(tmp_path, redis_server, prefix)
    written(plan, 300)
    with exported(plan):
        pass
    for left in (*plan.journal_dir(0).iterdir(), *plan.log_dir.iterdir()):
        left.unlink()
    written(plan, count, 5)  # of the same data directory, as after a loss that was accepted
    with exported(plan) as cache:
        assert cache.shards[0].fills == 1
    assert in_redis(plan, redis_server.client()) == as_it_is(plan)


def test_the_first_commands_of_a_shard_disturb_no_reader(
    redis_server: RedisServer, prefix: str
) -> None:
    with running(make_config()) as product, Client(product.addresses()[0], "alice") as client:
        section = redis_server.section(prefix)
        plan = product.with_config(msgspec.structs.replace(product.config, redis=section))
        redis, position = redis_server.client(), Names(prefix).of(0).position
        with exported(plan) as cache:
            until(lambda: (cache.step(), redis.hget(position, "state"))[1] == "ready")
            for instrument in plan.instruments_of(0):
                client.submit(instrument.symbol, "buy", 1, "1.00")
            until(lambda: (cache.step(), redis.hget(position, "position"))[1] == "2")
            assert cache.shards[0].fills == 0
            assert len(redis.hget(position, "identity")) > 8
        assert in_redis(plan, redis) == as_it_is(plan)


def test_from_far_away_it_is_filled_anew(
    redis_server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(make_config()) as product, Client(product.addresses()[0], "alice") as client:
        section = redis_server.section(prefix)
        plan = product.with_config(msgspec.structs.replace(product.config, redis=section))
        client.submit("AA", "buy", 1, "1.00")
        with exported(plan) as cache:
            shard = cache.shards[next(i.shard for i in plan.instruments if i.symbol == "AA")]
            assert (shard.fills, shard.position) == (1, 1)
            client.submit("AA", "buy", 1, "1.00")
            until(lambda: (cache.step(), shard.position)[1] == 2)
            assert shard.fills == 1
            monkeypatch.setattr(exporting, "MOST_BEHIND", 1)
            client.submit("AA", "buy", 1, "1.00")
            client.submit("AA", "buy", 1, "1.00")
            until(lambda: (cache.step(), shard.position)[1] == 4)
            assert shard.fills == 2


def test_a_batch_whose_answer_is_lost_is_not_done_twice(
    tmp_path: Path,
    redis_server: RedisServer,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plan, client = planned(tmp_path, redis_server, prefix), redis_server.client()
    monkeypatch.setattr(exporting, "BATCH_COMMANDS", 100)
    written(plan, 300)
    with exported(plan) as cache:
        write_journal(plan, commands_for(plan, 300, 2), end=recovered(plan)[0].end)
        receive, lost = storing.ShardStore.receive, [1]

        def lose(*arguments: Any) -> None:
            receive(*arguments)
            if lost:
                lost.pop()
                raise storing.CacheAwayError("the answer is lost")

        monkeypatch.setattr(storing.ShardStore, "receive", lose)
        assert cache.step() > 0
        assert cache.step() == 0
        assert cache.away == "the answer is lost"
        while cache.step() or cache.away:
            pass
        assert (cache.shards[0].fills, cache.failures) == (1, 1)
    assert "not where it was left" not in caplog.text  # it was not begun anew either
    assert in_redis(plan, client) == as_it_is(plan)


def test_what_was_emptied_or_changed_is_filled_again(
    tmp_path: Path, redis_server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, client = planned(tmp_path, redis_server, prefix), redis_server.client()
    names = Names(prefix).of(0)
    written(plan)
    monkeypatch.setattr(exporting, "CHECK_S", 0.0)
    with exported(plan) as cache:
        for spoil in (
            client.flushall,
            lambda: client.delete(names.position),
            lambda: client.hset(names.position, "state", "filling"),
            lambda: client.hset(names.position, "position", 17),
        ):
            fills = cache.shards[0].fills
            spoil()
            until(lambda: (cache.step(), cache.shards[0].fills)[1] > fills)  # noqa: B023
            until(lambda: client.hget(names.position, "state") == "ready")
            assert in_redis(plan, client) == as_it_is(plan)
        client.set(names.changes, "of another type")
        write_journal(plan, commands_for(plan, 100, 2), end=recovered(plan)[0].end)
        log_trades(plan)
        fills = cache.shards[0].fills
        until(lambda: (cache.step(), cache.shards[0].fills)[1] > fills)
        assert json.loads(client.hget(f"{prefix}:instruments", 1))["symbol"] == "AA"
    assert in_redis(plan, client) == as_it_is(plan)


def test_a_replica_that_leads_now_and_is_behind_is_gone_on_with(
    tmp_path: Path, prefix: str
) -> None:
    with redis_running() as leader, redis_running() as replica:
        plan = planned(tmp_path, leader, prefix)
        first, second, position = leader.client(), replica.client(), Names(prefix).of(0).position
        second.replicaof("127.0.0.1", leader.port)
        written(plan)
        with exported(plan) as cache:
            until(lambda: second.hget(position, "position") == "3000")
            second.replicaof("NO", "ONE")
            write_journal(plan, commands_for(plan, 500, 2), end=recovered(plan)[0].end)
            log_trades(plan)
            until(lambda: (cache.step(), first.hget(position, "position"))[1] == "3500")
            leader.kill()
            until(lambda: (cache.step(), cache.away)[1] is not None)
            second.config_set("port", leader.port)  # as an address that leads to it by now
            until(lambda: (cache.step(), second.hget(position, "position"))[1] == "3500")
            assert cache.shards[0].fills == 1
        assert in_redis(plan, first) == as_it_is(plan)


def test_everything_is_bounded(tmp_path: Path, redis_server: RedisServer, prefix: str) -> None:
    bounds = (
        "trades = 100\nended_orders = 50\nuser_orders = 20\nuser_events = 30\ndepth_entries = 3"
    )
    plan, client = planned(tmp_path, redis_server, prefix, bounds), redis_server.client()
    names = Names(prefix).of(0)
    written(plan, 300)
    with exported(plan) as cache:
        write_journal(plan, commands_for(plan, 20_000, 2), end=recovered(plan)[0].end)
        while cache.step():
            pass
    wanted, found = as_it_is(plan, trades=100), in_redis(plan, client)
    live = set().union(*wanted.open_orders.values())
    assert client.llen(names.ended) == 50
    assert len(found.orders) == len(live) + 50
    assert live <= found.orders.keys()
    for symbol, ids in found.trades.items():  # what a stream has beyond is less than a node of it
        assert ids[-100:] == wanted.trades[symbol]
        assert len(ids) < 250
    events, listed = [], []
    for account in wanted.open_orders:
        listed.append(client.zcard(names.user_orders(account)))
        assert (
            set(map(int, client.zrange(names.open_orders(account), 0, -1)))
            == (wanted.open_orders[account])
        )
        entries = [json.loads(f["events"]) for _, f in client.xrange(names.events(account))]
        numbers = [event["number"] for entry in entries for event in entry]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        events.append(len(numbers))
        assert 0 < client.ttl(names.events(account)) <= 86_400
    assert 20 <= max(listed) <= 20 + MORE_LISTED
    assert 30 <= max(events) <= 30 + 64
    assert client.xlen(names.depth("AA")) == 3
    assert 0 < client.ttl(names.trades("AA")) <= 86_400
    ended = next(order_id for order_id in found.orders if order_id not in live)
    assert 0 < client.ttl(f"{names.order}{ended}") <= 86_400
    assert client.ttl(f"{names.order}{next(iter(live))}") == -1


def test_trades_go_as_they_grow_old(tmp_path: Path, redis_server: RedisServer, prefix: str) -> None:
    plan, client = (
        planned(tmp_path, redis_server, prefix, "trade_seconds = 1000"),
        redis_server.client(),
    )
    written(plan, 300)
    with exported(plan) as cache:
        commands = commands_for(plan, 3_000, 2)
        commands["timestamp_ns"] += np.arange(3_000).astype(np.uint64) // 100 * 100 * 10**9
        write_journal(plan, commands, end=recovered(plan)[0].end)
        cache.run(lambda: True, time.sleep)  # told to stop, it takes what is there
    found = client.xrange(Names(prefix).of(0).trades("AA"))
    times = [json.loads(fields["trade"])["timestamp"] // 10**9 for _, fields in found]
    ids, wanted = in_redis(plan, client).trades["AA"], as_it_is(plan).trades["AA"]
    assert ids == wanted[-len(ids) :]
    assert 800 <= times[-1] - times[0] <= 1_100


def refused(cache: Cache) -> None:
    """Export until that is refused."""
    until(lambda: cache.step() < 0)


def test_one_exporter_writes_of_one_data_directory(
    tmp_path: Path, redis_server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    plan = planned(tmp_path / "one", redis_server, prefix)
    written(plan)
    with exported(plan):
        second = Cache(plan)
        assert second.step() == 0
        assert "is written by" in (second.away or "")
        store = second.shards[0]._store
        there = store.position()
        assert there is not None
        with pytest.raises(CacheError, match="another exporter writes shard 0"):
            store.verify(there)  # as one does whose lease has ended while it slept
        monkeypatch.setattr(exporting, "TAKE_S", 0.0)
        with pytest.raises(CacheError, match="another exporter writes shard 0"):
            refused(second)
    other = planned(tmp_path / "other", redis_server, prefix)
    write_journal(other, commands_for(other, 10), secret=5)
    third = Cache(other)
    with pytest.raises(CacheError, match="was filled from another data directory"):
        refused(third)
    third.close()
    assert in_redis(plan, redis_server.client()) == as_it_is(plan)


def test_a_redis_with_password_and_tls(
    tmp_path: Path,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "ca"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key"))
    more = [
        "--user",
        "market",
        "on",
        ">se-cret-1",
        "~*",
        "&*",
        "+@all",
        "--tls-cert-file",
        f"{tmp_path}/cert",
    ]
    more += ["--tls-key-file", f"{tmp_path}/key", "--tls-ca-cert-file", f"{tmp_path}/ca"]
    with redis_running(*more, "--tls-auth-clients", "no", "--tls-port", "0") as server:
        client = server.client(username="market", password="se-cret-1")
        port = server.port + 1 if server.port < 65_535 else server.port - 1
        client.config_set("tls-port", port)
        extra = f'user = "market"\ntls = true\ntls_ca = "{tmp_path}/ca"'
        plan = planned(tmp_path, server, prefix, extra)
        section = msgspec.structs.replace(plan.config.redis, port=port)
        plan = plan.with_config(msgspec.structs.replace(plan.config, redis=section))
        written(plan, 100)
        monkeypatch.setenv("REDIS_PASSWORD", "se-cret-2")
        cache = Cache(plan)
        assert cache.step() == 0
        assert "rediss://market@127.0.0.1" in (cache.away or "")
        monkeypatch.setenv("REDIS_PASSWORD", "se-cret-1")
        with exported(plan):
            assert in_redis(plan, client) == as_it_is(plan)
        server.kill()
        cache = Cache(plan)
        cache.step()
        said = caplog.text + repr(plan.config) + (cache.away or "")
        assert "se-cret" not in said
        assert "held up" in said


def test_a_cluster_takes_each_batch_on_one_node(tmp_path: Path, prefix: str) -> None:
    with redis_running("--cluster-enabled", "yes", "--cluster-config-file", "nodes") as server:
        client = server.client()
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        until(lambda: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")))
        plan = planned(tmp_path, server, prefix)
        written(plan, 500)
        with exported(plan) as cache:
            write_journal(plan, commands_for(plan, 500, 2), end=recovered(plan)[0].end)
            while cache.step():
                pass
        assert in_redis(plan, client) == as_it_is(plan)
        slots = {client.execute_command("CLUSTER", "KEYSLOT", k) for k in client.scan_iter("*{0}*")}
        assert len(slots) == 1


def test_valkey_takes_it_as_redis_does(tmp_path: Path, prefix: str) -> None:
    with redis_running(named=valkey()) as server:
        assert server.client().info("server")["server_name"] == "valkey"
        plan = planned(tmp_path, server, prefix)
        written(plan, 1_000)
        with exported(plan) as cache:
            write_journal(plan, commands_for(plan, 1_000, 2), end=recovered(plan)[0].end)
            while cache.step():
                pass
            assert cache.shards[0].fills == 1
        assert in_redis(plan, server.client()) == as_it_is(plan)


def test_settings_from_the_environment() -> None:
    environment = {
        "REDIS_ENABLED": "true",
        "REDIS_HOST": "cache.example",
        "REDIS_PORT": "7000",
        "REDIS_DB": "3",
        "REDIS_PASSWORD": "unseen",
    }
    config = with_environment(make_config(), environment)
    found = config.redis
    assert (found.enabled, found.host, found.port, found.database) == (
        True, "cache.example", 7_000, 3,
    )  # fmt: skip
    assert "unseen" not in repr(config)
    for key, value, rule in (
        ("prefix", "'a{b}'", "must be 1 to 64 letters"),
        ("host", "''", "must be 1 to 255 printable"),
        ("tls_ca", "'file'", "redis.tls must be true"),
    ):
        with pytest.raises(ConfigError, match=rule):
            make_config(extra=f"[redis]\n{key} = {value}\n")
    with pytest.raises(ConfigError, match=r"redis\.enabled = true: needs a journal"):
        make_config(extra="[redis]\nenabled = true\n[journal]\ndurability = 'off'\n")


class Resuming(threading.Thread):
    """Reads the streams of trades of a product, on from what it has seen, whatever dies."""

    def __init__(self, plan: Plan, server: RedisServer) -> None:
        super().__init__(daemon=True)
        self._client = server.client(socket_timeout=5)
        self._keys = {
            i.symbol: Names(plan.config.redis.prefix).of(i.shard).trades(i.symbol)
            for i in plan.instruments
        }
        self.seen: dict[str, list[int]] = {symbol: [] for symbol in self._keys}
        self.ended = threading.Event()

    def run(self) -> None:
        import redis

        while not self.ended.is_set():
            for symbol, key in self._keys.items():
                seen = self.seen[symbol]
                after = f"({seen[-1]}-0" if seen else "-"
                try:
                    entries = self._client.xrange(key, after, "+", count=100)
                except redis.RedisError:
                    time.sleep(0.01)
                    continue
                seen += [json.loads(fields["trade"])["trade_id"] for _, fields in entries]


def trade(client: Client, chance: random.Random, count: int) -> None:
    """Have orders that trade, rest, and are cancelled."""
    for _ in range(count):
        symbol = chance.choice(["AA", "BB", "CC", "DD"])
        price = f"{chance.randrange(90, 110)}.00"
        order = client.submit(symbol, chance.choice(["buy", "sell"]), chance.randrange(1, 9), price)
        if chance.random() < 0.3:
            with suppress(OrderRejectedError):  # it has traded
                client.cancel(order.order_id)


def test_whoever_is_killed_redis_is_right_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, prefix: str
) -> None:
    seed = int(os.environ.get("SHARDBOOK_REDIS_SEED", random.randrange(1 << 30)))
    print(f"SHARDBOOK_REDIS_SEED={seed} (kills: SHARDBOOK_REDIS_KILLS)")
    chance, directory = random.Random(seed), tmp_path_factory.mktemp("s")
    with redis_running() as server, served(directory, server.text(prefix)) as serving:
        plan = serving.plan
        reader = Resuming(plan, server)
        reader.start()
        with Client(plan.addresses()[0], "alice") as client:
            for kill in range(KILLS):
                trade(client, chance, chance.randrange(1, 60))
                if kill % 2:
                    server.kill()
                    trade(client, chance, chance.randrange(1, 60))
                    server.start()
                else:
                    pid = serving.member("redis").pid
                    os.kill(pid, signal.SIGKILL)
                    trade(client, chance, chance.randrange(1, 60))
                    until(lambda pid=pid: serving.member("redis").pid not in (0, pid))  # type: ignore[misc]
            trade(client, chance, 20)
        wanted = {shard: as_it_is(plan, shard) for shard in plan.shards}
        for shard in plan.shards:
            until(lambda shard=shard: at_rest(plan, server, shard) == wanted[shard])  # type: ignore[misc]
        made = {symbol: ids for found in wanted.values() for symbol, ids in found.trades.items()}
        assert sum(map(len, made.values())) > 10
        until(lambda: sum(map(len, reader.seen.values())) >= sum(map(len, made.values())))
        reader.ended.set()
        reader.join()
        assert reader.seen == made
        until(lambda: serving.member("redis").counters["away"] == 0)
        account = server.client().hget(f"{prefix}:users", "alice")
        assert server.client().hget(f"{prefix}:accounts", account) == "alice"


def at_rest(plan: Plan, server: RedisServer, shard: int) -> Any:
    """Return what Redis has of a shard, None while it is being filled."""
    client = server.client()
    if client.hget(Names(plan.config.redis.prefix).of(shard).position, "state") != "ready":
        return None
    return in_redis(plan, client, shard)
