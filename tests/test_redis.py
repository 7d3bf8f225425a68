"""What is current, in Redis: exact, bounded, once, by one writer, and again where it was lost."""

import json
import time
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
from frontend.client import Client
from ipc.vocabulary import CommandType, OrderType, Side
from tests.caching import as_it_is, exported, in_redis, planned, written
from tests.kept import commands_for, recovered, write_journal
from tests.product import make_config, running, until
from tests.redis_server import RedisServer

pytestmark = pytest.mark.servers
STATUS, UPDATED = 3, 9
"""Of an order of a picture."""
ENDED_WORDS = ("FILLED", "CANCELLED", "EXPIRED")


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


def test_an_exporter_whose_product_has_died_leaves_the_rest_to_the_next(
    tmp_path: Path, redis_server: RedisServer, prefix: str
) -> None:
    plan = planned(tmp_path, redis_server, prefix)
    written(plan, 300)
    with exported(plan) as cache:
        write_journal(plan, commands_for(plan, 6_000, 2), end=recovered(plan)[0].end)
        cache.run(lambda: True, time.sleep, lambda: True)
        assert cache.shards[0].position < 6_300
    with exported(plan) as cache:
        assert cache.shards[0].fills == 0
    assert in_redis(plan, redis_server.client()) == as_it_is(plan)


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
