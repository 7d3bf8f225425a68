"""Redis on bad days, and other servers of its kind: what is there in the end is what there is."""

import json
import os
import random
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.cache import shard_export as exporting
from engine.cache import store as storing
from engine.cache.exporter import Cache
from engine.cache.names import Names
from engine.plan import Plan
from frontend.client import Client
from frontend.client.errors import OrderRejectedError
from tests.caching import as_it_is, exported, in_redis, planned, written
from tests.kept import commands_for, recovered, write_journal
from tests.product import until
from tests.redis_server import RedisServer, redis_running, valkey
from tests.test_serve import served
from tests.test_snapshot import log_trades

pytestmark = pytest.mark.servers
KILLS = int(os.environ.get("SHARDBOOK_REDIS_KILLS", "4"))


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
