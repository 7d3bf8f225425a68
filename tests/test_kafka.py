"""Trades in Kafka: each once for who reads what is committed, whoever is killed."""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config import ConfigError
from engine.environment import with_environment
from engine.kafka import shard_export as exporting
from engine.kafka.exporter import Exporter
from engine.kafka.link import KafkaAwayError, KafkaLinkError, options
from engine.kafka.position import read_position
from engine.kafka.topics import Topics, initialise
from engine.plan import Plan
from engine.sections import KafkaSection
from engine.shard.snapshotter import take_snapshot
from engine.trade_log.lines import LineFormatter
from engine.trade_log.log import TradeLog
from frontend.cli import main
from frontend.client import Client
from ipc.records import LEVEL
from ipc.vocabulary import Side
from tests.kafka_brokers import Brokers, brokers_running
from tests.kept import commands_for, plan_of, recovered, write_journal
from tests.product import make_config, until
from tests.test_redis_servers import trade
from tests.test_serve import served
from tests.test_snapshot import SMALL, log_trades

KILLS = int(os.environ.get("SHARDBOOK_KAFKA_KILLS", "4"))
servers = pytest.mark.servers
_prefixes = iter(range(1 << 30))


@pytest.fixture
def prefix() -> str:
    return f"test{next(_prefixes)}"


def planned(directory: Path, broker: Brokers, prefix: str, more: str = "") -> Plan:
    """Return the plan of a product of one shard that is exported, whose topics there are."""
    plan = plan_of(directory, SMALL + broker.text(prefix, more))
    list(initialise(plan.config.kafka, 1))
    return plan


def written(plan: Plan, count: int = 2_000, seed: int = 1) -> None:
    """Have a journal, or more of one, and its trade log."""
    end = None
    if seed > 1:
        log = TradeLog(plan.log_dir, 1 << 20)
        end = recovered(plan, log.last_sequence(0))[0].end
        log.close()
    write_journal(plan, commands_for(plan, count, seed), end=end)
    log_trades(plan)


@contextmanager
def exported(plan: Plan) -> Iterator[Exporter]:
    """Write all that there is; the exporter stays open for a while."""
    exporter = Exporter(plan)
    try:
        export(exporter)
        yield exporter
    finally:
        exporter.close()


def export(exporter: Exporter) -> None:
    idle = 0
    while idle < 3:
        idle = 0 if exporter.step() or exporter.shards[0]._touched else idle + 1
        assert exporter.away is None, exporter.away


def lines_of(plan: Plan) -> dict[str, list[bytes]]:
    """Return the lines of all trades that the journal makes, by symbol."""
    _, trades = recovered(plan)
    lines = bytes(LineFormatter(plan.instruments).format(trades)).splitlines()
    found: dict[str, list[bytes]] = {}
    for line in lines:
        found.setdefault(json.loads(line)["symbol"], []).append(line)
    return found


def in_kafka(plan: Plan, broker: Brokers) -> dict[str, list[bytes]]:
    """Return what a consumer that reads what is committed gets, by symbol."""
    found: dict[str, list[bytes]] = {}
    for message in broker.messages(Topics.of(plan.config.kafka).trades):
        assert message.headers() == [("version", b"1")]
        found.setdefault(message.key().decode(), []).append(message.value())
    return found


@servers
def test_topics_are_made_once_and_must_be_what_they_must_be(
    tmp_path: Path, broker: Brokers, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "test.toml"
    text = broker.text(prefix, 'snapshots_topic = "orderbook.snapshots"\npartitions = 3')
    text += '[[instruments]]\nsymbol = "AA"\ntick_size = "0.01"\n'
    config.write_text(text)
    assert main(["cluster", "init", "--config", str(config)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{prefix}.trades: made, 3 partitions on 1 brokers each",
        f"{prefix}.instruments: made, 1 partitions on 1 brokers each",
        "orderbook.snapshots: made, 3 partitions on 1 brokers each",
        f"{prefix}.positions: made, 2 partitions on 1 brokers each",
        f"{prefix}.commands: made, 2 partitions on 1 brokers each",
    ]
    config.write_text(text + "[engine]\nmatchers = 4\n")
    assert main(["cluster", "init", "--config", str(config)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"{prefix}.trades: is there, 3 partitions"
    assert told[3] == f"{prefix}.positions: has 4 partitions now, 2 before"
    assert main(["cluster", "init", "--config", str(config)]) == 0
    section = broker.section(prefix, positions_topic=f"{prefix}.trades")
    with pytest.raises(KafkaLinkError, match=r"cleanup.policy = delete: must be compact"):
        list(initialise(section, 1))
    with pytest.raises(KafkaLinkError, match="replication = 2: there are 1 brokers"):
        list(initialise(broker.section(prefix, replication=2), 1))


@servers
def test_every_trade_is_there_once_as_the_log_has_it(
    tmp_path: Path, broker: Brokers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, broker, prefix, "snapshot_ms = 1")
    written(plan)
    section, topics = plan.config.kafka, Topics.of(plan.config.kafka)
    assert read_position(section, 0) is None
    monkeypatch.setattr(exporting, "BATCH_COMMANDS", 300)  # so that there are several
    with exported(plan) as exporter:
        assert exporter.shards[0].transactions >= 2
    wanted = lines_of(plan)
    assert sum(map(len, wanted.values())) > 300
    assert in_kafka(plan, broker) == wanted
    at = read_position(section, 0)
    assert at is not None
    assert (at.position, at.trades) == (2_000, sum(map(len, wanted.values())))
    listed = [json.loads(m.value()) for m in broker.messages(topics.instruments)]
    assert [(i["symbol"], i["tick_size"], i["shard"]) for i in listed] == [
        ("AA", "0.01", 0),
        ("BB", "0.01", 0),
    ]
    book, best = recovered(plan)[0].shard.book, np.zeros(1, LEVEL)
    newest = {m.key().decode(): json.loads(m.value()) for m in broker.messages(topics.snapshots)}
    for number, symbol in ((1, "AA"), (2, "BB")):
        shown = newest[symbol]
        for side, name in ((Side.BUY, "bids"), (Side.SELL, "asks")):
            assert 0 < len(shown[name]) <= 20
            book.depth(number, side, best)
            assert shown[name][0][0] == f"{int(best['price'][0]) / 100:.2f}"
    written(plan, 500, 2)
    with exported(plan) as exporter:  # it goes on where Kafka is
        assert exporter.shards[0].commands == 500
    assert in_kafka(plan, broker) == lines_of(plan)


@servers
def test_an_exporter_whose_product_has_died_leaves_the_rest_to_the_next(
    tmp_path: Path, broker: Brokers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, broker, prefix)
    written(plan)
    monkeypatch.setattr(exporting, "BATCH_COMMANDS", 300)
    exporter = Exporter(plan)
    begun = lambda: exporter.shards[0].commands > 0  # noqa: E731
    exporter.run(begun, time.sleep, begun)
    left = exporter.shards[0].commands
    exporter.close()
    assert 0 < left <= 900
    with exported(plan) as exporter:
        assert exporter.shards[0].commands == 2_000 - left
    assert in_kafka(plan, broker) == lines_of(plan)


@servers
def test_an_answer_that_is_lost_doubles_and_loses_nothing(
    tmp_path: Path, broker: Brokers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, broker, prefix)
    written(plan, 300)
    lost = ["after", "before", "after"]
    write, put = exporting.ShardExport._write, exporting.ShardExport._put

    def losing(export: Any, batch: Any) -> None:
        if not lost:
            write(export, batch)
            return
        when = lost.pop()
        if when == "before":
            monkeypatch.setattr(exporting.ShardExport, "_put", fail_behind_the_first)
        try:
            write(export, batch)
        finally:
            monkeypatch.setattr(exporting.ShardExport, "_put", put)
        raise KafkaAwayError("the answer is lost")

    def fail_behind_the_first(export: Any, producer: Any, topic: str, *rest: Any) -> None:
        put(export, producer, topic, *rest)
        if topic == Topics.of(plan.config.kafka).positions:
            producer.flush(10)  # all is with the broker, and not committed
            raise KafkaAwayError("the connection is lost")

    monkeypatch.setattr(exporting.ShardExport, "_write", losing)
    exporter = Exporter(plan)
    try:
        while lost or exporter.away is not None or exporter.step():
            exporter.step()
        export(exporter)
    finally:
        exporter.close()
    assert exporter.failures == 3
    assert in_kafka(plan, broker) == lines_of(plan)
    topic = Topics.of(plan.config.kafka).trades
    assert len(broker.messages(topic, committed=False)) > len(broker.messages(topic))


@servers
def test_two_products_do_not_share_a_prefix(tmp_path: Path, broker: Brokers, prefix: str) -> None:
    plan = planned(tmp_path / "one", broker, prefix)
    written(plan, 200)
    other = plan_of(tmp_path / "other", broker.text(prefix))
    write_journal(other, commands_for(other, 100), secret=7)
    with exported(plan) as exporter:
        with pytest.raises(KafkaLinkError, match="was written from another data directory"):
            Exporter(other).step()
        written(plan, 100, 2)
        export(exporter)  # it was not disturbed
        with exported(plan):  # one of the same product takes over
            written(plan, 100, 3)
            with pytest.raises(KafkaLinkError, match="another exporter writes shard 0 now"):
                export(exporter)
    with exported(plan):
        assert in_kafka(plan, broker) == lines_of(plan)


@servers
def test_trades_that_no_journal_has_come_from_the_log(
    tmp_path: Path, broker: Brokers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, broker, prefix)
    for seed in range(1, 6):
        written(plan, 1_000, seed)
        take_snapshot(plan, 0)
    wanted: dict[str, list[bytes]] = {}
    for line in (plan.log_dir / "trades.ndjson").read_bytes().splitlines():
        wanted.setdefault(json.loads(line)["symbol"], []).append(line)
    monkeypatch.setattr(exporting, "PAST_TRADES", 100)
    exporter = Exporter(plan)
    assert exporter.step() == 0  # the instruments
    assert exporter.step() == 100
    assert exporter.step() == 100
    exporter.close()  # in the middle of them
    with exported(plan) as exporter:
        assert exporter.shards[0].missing == 0
    assert in_kafka(plan, broker) == wanted
    at = read_position(plan.config.kafka, 0)
    assert at is not None
    assert (at.position, at.trades) == (5_000, sum(map(len, wanted.values())))


@servers
def test_whoever_is_killed_each_trade_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, prefix: str
) -> None:
    seed = int(os.environ.get("SHARDBOOK_KAFKA_SEED", random.randrange(1 << 30)))
    print(f"SHARDBOOK_KAFKA_SEED={seed} (kills: SHARDBOOK_KAFKA_KILLS)")
    chance, directory = random.Random(seed), tmp_path_factory.mktemp("s")
    with (
        brokers_running() as broker,
        served(directory, broker.text(prefix)) as serving,
    ):
        plan = serving.plan
        with Client(plan.addresses()[0], "alice") as client:
            trade(client, chance, 20)  # there are no topics yet
            until(lambda: serving.member("kafka").counters["away"] == 1)
            list(initialise(plan.config.kafka, 2))
            for kill in range(KILLS):
                trade(client, chance, chance.randrange(1, 60))
                if kill % 2:
                    broker.kill()
                    trade(client, chance, chance.randrange(1, 60))
                    broker.start()
                else:
                    pid = serving.member("kafka").pid
                    os.kill(pid, signal.SIGKILL)
                    trade(client, chance, chance.randrange(1, 60))
                    until(lambda pid=pid: serving.member("kafka").pid not in (0, pid))  # type: ignore[misc]
            trade(client, chance, 20)
        wanted: dict[int, list[bytes]] = {}
        serving.process.send_signal(signal.SIGTERM)  # it ends behind all that there is
        serving.end()
        for line in (plan.log_dir / "trades.ndjson").read_bytes().splitlines():
            wanted.setdefault(json.loads(line)["symbol"], []).append(line)
        assert sum(map(len, wanted.values())) > 10
        assert in_kafka(plan, broker) == wanted


def test_how_kafka_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, rule in (
        ('brokers = "a:1,,b:2"', "kafka.brokers"),
        ('prefix = "a b"', "kafka.prefix"),
        ('trades_topic = "a/b"', "kafka.trades_topic"),
        ('tls_ca = "ca.pem"', "kafka.tls_ca: kafka.tls must be true"),
        ('tls = true\ntls_key = "key.pem"', "tls_certificate and tls_key must be given together"),
        ('user = "anna"', "sasl_mechanism and user must be given together"),
        ("enabled = true\n[journal]\ndurability = 'off'", "kafka.enabled = true: needs a journal"),
    ):
        with pytest.raises(ConfigError, match=rule):
            make_config(extra=f"[kafka]\n{text}\n")
    told = {"KAFKA_ENABLED": "true", "KAFKA_BROKERS": "a:1,b:2", "KAFKA_GROUP_ID": "desk"}
    kafka = with_environment(make_config(), told).kafka
    assert (kafka.enabled, kafka.brokers, kafka.group_id) == (True, "a:1,b:2", "desk")
    section = KafkaSection(
        tls=True, tls_ca="ca", sasl_mechanism="SCRAM-SHA-512", user="anna", trades_topic="T"
    )
    monkeypatch.setenv("KAFKA_PASSWORD", "secret")
    found = options(section, "name")
    assert found["security.protocol"] == "SASL_SSL"
    assert (found["ssl.ca.location"], found["sasl.password"]) == ("ca", "secret")
    assert Topics.of(section) == (
        "T",
        "shardbook.instruments",
        "shardbook.snapshots",
        "shardbook.positions",
        "shardbook.commands",
    )
