"""Nodes of a cluster: the same books on each, whichever of them takes an order, dies or comes."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from bench.recorded import RECORDED
from engine.cluster.entries import HEADERS, decode
from engine.cluster.log_time import Places
from engine.config import ConfigError
from engine.kafka.topics import Topics
from engine.plan import Plan
from engine.roles import KAFKA
from frontend.cli import main
from frontend.client import Client
from frontend.client.errors import ClientError, OrderRejectedError
from frontend.cluster_demo import run_nodes
from frontend.replay.flow_file import read_flow
from frontend.replay.run import config_for
from frontend.replay.run import replay as replayed
from ipc.memory.status import StatusReader, counter_place
from ipc.records import SEQUENCE_MASK
from ipc.vocabulary import ExecType, OrdStatus, Reason
from tests.kafka_brokers import Brokers, brokers_running
from tests.nodes_of_kafka import Cluster, clustered
from tests.product import make_config, until
from tests.test_redis_servers import trade
from tests.test_replay import recorded_fills
from tests.test_serve import Served

KILLS = int(os.environ.get("SHARDBOOK_CLUSTER_KILLS", "4"))
servers = pytest.mark.servers


@pytest.fixture(scope="module")
def cluster(broker: Brokers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with clustered(broker, "cluster", tmp_path_factory, 2) as found:
        yield found


@servers
def test_an_order_on_one_node_trades_with_one_on_another(cluster: Cluster, tmp_path: Path) -> None:
    one, other = (plan.addresses()[0] for plan in cluster.plans())
    with Client(one, "alice") as alice, Client(other, "bob") as bob, Client(other, "alice") as too:
        resting = alice.submit("AA", "sell", 5, "10.00")
        taken = bob.submit("AA", "buy", 3, "10.00")
        assert taken.order_id == resting.order_id + 1
        (fill,) = [e for e in bob.reports(5) if e.exec_type == ExecType.TRADE][:1]
        for client in (alice, too):  # of both sessions, wherever they are
            found = next(e for e in client.reports(30) if e.exec_type == ExecType.TRADE)
            assert (found.trade_id, found.raw.account_sequence & SEQUENCE_MASK) == (
                fill.trade_id,
                2,
            )
        until(lambda: too.order(resting.order_id).leaves_qty == 2)
        assert too.cancel(resting.order_id).exec_type == ExecType.CANCELED
        again = bob.submit("BB", "buy", 1, "9.00", client_order_id=7)
    with Client(one, "bob") as bob:  # at most once, on whichever node
        with pytest.raises(OrderRejectedError) as refused:
            bob.submit("BB", "buy", 1, "9.00", client_order_id=7)
        assert refused.value.code == Reason.DUPLICATE_CLIENT_ORDER_ID
        assert bob.cancel(again.order_id).exec_type == ExecType.CANCELED
    cluster.agree(tmp_path)


@servers
def test_what_ends_by_itself_ends_alike_everywhere(cluster: Cluster, tmp_path: Path) -> None:
    one, other = (plan.addresses()[0] for plan in cluster.plans())
    with Client(one, "carol", cancel_on_disconnect=True) as carol:
        fleeting = carol.submit("AA", "buy", 1, "1.00")
        with Client(other, "dave") as dave:
            soon_ns = time.time_ns() + 300_000_000
            timed = dave.submit("AA", "buy", 1, "2.00", time_in_force="gtd", expire_time_ns=soon_ns)
            kept = dave.submit("BB", "buy", 1, "2.00")
            until(lambda: dave.order(timed.order_id).ord_status == OrdStatus.EXPIRED)
            assert dave.order(kept.order_id).ord_status == OrdStatus.NEW
            for _ in range(50):
                dave.submit("BB", "buy", 1, "1.50")
            assert dave.cancel_all("BB") == 51
    with Client(other, "carol") as carol:
        until(lambda: carol.order(fleeting.order_id).ord_status == OrdStatus.CANCELED)
    cluster.agree(tmp_path)


@servers
def test_a_node_of_other_instruments_is_stopped_and_one_of_no_state_is_not(
    cluster: Cluster, tmp_path: Path
) -> None:
    before = cluster.agree(tmp_path)
    assert before[0][0] > 5
    node = cluster.add()
    try:
        assert cluster.agree(tmp_path) == before
        with Client(node.plan.addresses()[0], "erin") as erin:
            erin.submit("CC", "buy", 1, "1.00")
            erin.cancel_all()
        cluster.agree(tmp_path)
        before = cluster.agree(tmp_path)
        node.process.send_signal(signal.SIGTERM)
        assert node.end() == 0
    finally:
        cluster.nodes.remove(node)
    wrong = cluster.text(9) + "[[instruments]]\nsymbol = 'ZZ'\ntick_size = '1'\n"
    text = f'data_dir = "{tmp_path}/wrong"\n{wrong}[engine]\npin = false\nmatchers = 2\n'
    (tmp_path / "wrong.toml").write_text(text)
    stranger = Served(tmp_path, text=text)
    stranger.until("nodes have other instruments than this one")
    stranger.process.send_signal(signal.SIGTERM)
    stranger.end()
    assert cluster.agree(tmp_path) == before


@servers
def test_orders_end_whose_node_dies_with_the_session(
    broker: Brokers, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    with clustered(broker, "gone", tmp_path_factory, 2) as cluster:
        dying, other = cluster.nodes
        carol = Client(dying.plan.addresses()[0], "carol", cancel_on_disconnect=True)
        fleeting = carol.submit("AA", "buy", 1, "1.00")
        with Client(other.plan.addresses()[0], "dave", cancel_on_disconnect=True) as dave:
            kept = dave.submit("AA", "buy", 1, "1.00")
            until(lambda: dying.member("matcher").counters["entries"] >= 4)  # it has said so
            supervisor = dying.member("supervisor").pid
            os.kill(supervisor, signal.SIGSTOP)  # or it would start another matcher
            for number in range(2):
                os.kill(dying.member("matcher", number).pid, signal.SIGKILL)
            os.kill(supervisor, signal.SIGKILL)
            dying.end()
            cluster.nodes.remove(dying)
            carol.close()
            with Client(other.plan.addresses()[0], "carol") as carol:
                until(lambda: carol.order(fleeting.order_id).ord_status == OrdStatus.CANCELED)
            assert dave.order(kept.order_id).ord_status == OrdStatus.NEW


@servers
def test_what_a_killed_matcher_had_on_its_way_is_void_and_a_number_has_one_directory(
    broker: Brokers, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    with clustered(broker, "lives", tmp_path_factory, 1) as cluster:
        node, topic = cluster.nodes[0], Topics.of(broker.section("lives")).commands
        with Client(node.plan.addresses()[0], "alice") as alice:
            first = alice.submit("AA", "buy", 1, "1.00")
        sent = [decode(m.value()) for m in broker.messages(topic, 0)]
        [late] = [entry for entry in sent if entry.frames]
        os.kill(pid := node.member("matcher").pid, signal.SIGKILL)
        until(lambda: node.member("matcher").pid not in (0, pid))
        until(lambda: node.member("matcher").state == "ready")
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        producer.produce(topic, late.encode(), partition=0, headers=HEADERS)
        assert producer.flush(30) == 0
        with Client(node.plan.addresses()[0], "alice") as alice:
            until(lambda: entered(alice))  # the frontend has found the matcher again
            until(lambda: node.member("matcher").counters["void_entries"] == 1)
            assert alice.submit("AA", "buy", 1, "1.00").order_id == first.order_id + 2
        stranger = Served(tmp_path_factory.mktemp("other"), cluster.text(0))
        stranger.until("node 0 there is another data directory: this one needs")
        stranger.process.send_signal(signal.SIGTERM)
        stranger.end()
        assert node.member("matcher").state == "ready"
        assert main(["cluster", "forget", "0", "--config", str(node.config)]) == 0
        node.until("another process has begun as node 0, or it was forgotten")
        cluster.nodes.remove(node)
        cluster.nodes.append(Served(stranger.config.parent, cluster.text(0)))
        cluster.nodes[0].until("ready")
        with Client(cluster.plans()[0].addresses()[0], "alice") as alice:
            assert alice.cancel_all() == 3
        cluster.close()
        cluster.nodes[0].end()


class Trading(threading.Thread):
    """A client that trades on one node after the other, and counts what it was told."""

    def __init__(self, cluster: Cluster, user: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.cluster, self.user, self.chance = cluster, user, random.Random(seed)
        self.ended = threading.Event()
        self.known: set[int] = set()

    def run(self) -> None:
        while not self.ended.is_set():
            plan = self.chance.choice(self.cluster.plans())
            with suppress(ClientError, OSError), Client(plan.addresses()[0], self.user) as client:
                for _ in range(self.chance.randrange(1, 30)):
                    symbol = self.chance.choice(["AA", "BB", "CC", "DD"])
                    side = self.chance.choice(["buy", "sell"])
                    price = f"{self.chance.randrange(90, 110)}.00"
                    order = client.submit(symbol, side, self.chance.randrange(1, 9), price)
                    self.known.add(order.order_id)


@servers
def test_nodes_and_brokers_that_are_killed_lose_and_double_nothing(
    brokers_of_its_own: Brokers,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = int(os.environ.get("SHARDBOOK_CLUSTER_SEED", random.randrange(1 << 30)))
    print(f"SHARDBOOK_CLUSTER_SEED={seed} (kills: SHARDBOOK_CLUSTER_KILLS)")
    chance, brokers = random.Random(seed), brokers_of_its_own
    with clustered(brokers, "killed", tmp_path_factory, 3, exports=True) as cluster:
        clients = [Trading(cluster, f"user{n}", chance.randrange(1 << 30)) for n in range(3)]
        for client in clients:
            client.start()
        for kill in range(KILLS):
            known = sum(len(client.known) for client in clients)
            if kill % 4 == 3:
                brokers.kill()
                brokers.start()
            else:
                role = ("matcher", "kafka", "matcher")[kill % 4]
                node, number = chance.choice(cluster.nodes), chance.randrange(2)
                number = number if role == "matcher" else 0
                pid = node.member(role, number).pid
                os.kill(pid, signal.SIGKILL)
                until(
                    lambda node=node, role=role, number=number, pid=pid: (  # type: ignore[misc]
                        node.member(role, number).pid not in (0, pid)
                        and node.member(role, number).state == "ready"
                    )
                )
            until(lambda known=known: sum(len(c.known) for c in clients) > known + 20)  # type: ignore[misc]
        for client in clients:
            client.ended.set()
        for client in clients:
            client.join()
        cluster.agree(tmp_path)
        orders = sum(len(client.known) for client in clients)
        assert orders > 50
        with Client(cluster.plans()[0].addresses()[0], "user0") as last:
            trade(last, chance, 5)
            for order_id in clients[0].known:  # what was answered is there, on any node
                assert last.order(order_id).order_id == order_id
        cluster.agree(tmp_path)
        logs = [sorted(lines_in(plan.log_dir)) for plan in cluster.plans()]
        wanted = {json.loads(line)["trade_id"] for line in logs[0]}
        topic = Topics.of(brokers.section("killed")).trades

        def there() -> list[int]:
            return [json.loads(m.value())["trade_id"] for m in brokers.messages(topic)]

        until(lambda: len(there()) >= len(wanted))
        assert sorted(there()) == sorted(wanted)
        assert logs[0] == logs[1] == logs[2]
        config = cluster.nodes[0].config
        dirs = [str(plan.data_dir) for plan in cluster.plans()]
        assert main(["cluster", "verify", "--config", str(config), *dirs]) == 0
        assert "all nodes agree" in capsys.readouterr().out
        assert main(["cluster", "status", "--config", str(config)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        assert all("by node-" in line and "no trades" not in line for line in lines)


@pytest.fixture
def brokers_of_its_own() -> Iterator[Brokers]:
    with brokers_running() as brokers:
        yield brokers


def entered(client: Client) -> bool:
    """Enter an order; return whether it was taken."""
    with suppress(OrderRejectedError):
        return bool(client.submit("AA", "buy", 1, "1.00"))
    return False


@servers
def test_a_log_that_has_not_what_a_node_needs_stops_it(
    broker: Brokers, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    with clustered(broker, "cut", tmp_path_factory, 1) as cluster:
        with Client(cluster.plans()[0].addresses()[0], "alice") as alice:
            for _ in range(5):
                alice.submit("AA", "buy", 1, "1.00")
                alice.submit("BB", "buy", 1, "1.00")
        places = cluster.plans()[0].journal_dir(0) / "log-places"
        until(lambda: Places(places).before(1 << 62).place.offset == 5)
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        cut = [TopicPartition("cut.commands", n, 3) for n in range(2)]
        for done in admin.delete_records(cut).values():
            done.result(30)
        directory = tmp_path_factory.mktemp("late")
        late = Served(directory, cluster.text(5))
        late.until("this node goes on with 0: it needs the data directory of another node")
        late.process.send_signal(signal.SIGTERM)
        late.end()
        node = cluster.nodes[0]  # one that has had them goes on
        os.kill(pid := node.member("matcher").pid, signal.SIGKILL)
        until(lambda: node.member("matcher").pid not in (0, pid))
        until(lambda: node.member("matcher").state == "ready")
        with Client(cluster.plans()[0].addresses()[0], "alice") as alice:
            until(lambda: entered(alice))  # the frontend has found the matcher again
            assert alice.cancel_all() == 11


@servers
def test_a_node_that_has_nothing_begins_with_a_snapshot_of_another(
    broker: Brokers, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    store = f'snapshots = "{tmp_path}/store"\n'
    with clustered(broker, "stored", tmp_path_factory, 0, exports=True) as cluster:
        first = cluster.add(more=store)
        with Client(first.plan.addresses()[0], "alice") as alice:
            trade(alice, random.Random(1), 40)
            kept = alice.submit("AA", "buy", 1, "0.50", client_order_id=77)
            places = [first.plan.journal_dir(n) / "log-places" for n in range(2)]
            until(lambda: all(Places(p).before(1 << 62).place.offset > 3 for p in places))
            trade(alice, random.Random(2), 5)
            for _ in range(3):  # the third one finds two there
                alice.submit("AA", "buy", 1, "0.40")
                alice.submit("BB", "buy", 1, "0.40")
                assert main(["snapshot", "--config", str(first.config)]) == 0
            trade(alice, random.Random(3), 5)
        assert [len(list((tmp_path / f"store/stored/{n}").iterdir())) for n in (0, 1)] == [4, 4]
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        cut = [TopicPartition("stored.commands", n, 3) for n in range(2)]
        for done in admin.delete_records(cut).values():
            done.result(30)
        second = cluster.add(more=store)
        assert sum("begins with" in line for line in second.lines) == 2
        with Client(second.plan.addresses()[0], "alice") as alice:
            assert alice.order(kept.order_id).leaves_qty == 1
            with pytest.raises(OrderRejectedError, match="DUPLICATE_CLIENT_ORDER_ID"):
                alice.submit("AA", "buy", 1, "0.50", client_order_id=77)
            trade(alice, random.Random(4), 20)
        cluster.agree(tmp_path)
        os.kill(pid := second.member("matcher").pid, signal.SIGKILL)
        until(lambda: second.member("matcher").pid not in (0, pid))
        until(lambda: second.member("matcher").state == "ready")
        logs = [node.plan.log_dir for node in (first, second)]
        until(lambda: set(lines_in(logs[0])[-3:]) <= set(lines_in(logs[1])))
        assert set(lines_in(logs[1])) < set(lines_in(logs[0]))
        second.process.send_signal(signal.SIGTERM)
        assert second.end() == 0
        assert main(["verify", str(second.plan.data_dir)]) == 0
        directory = second.config.parent
        cluster.nodes.remove(second)
        cluster.add(directory, more=store)  # goes on with its own
        cluster.agree(tmp_path)


@servers
def test_the_demo_runs_nodes_that_agree(broker: Brokers, tmp_path: Path) -> None:
    told: list[str] = []

    def use(plans: list[Plan]) -> None:
        with Client(plans[0].addresses()[0], "a") as one, Client(plans[1].addresses()[0], "b") as b:
            resting = one.submit("AA", "buy", 1, "1.00")
            until(lambda: b.submit("AA", "sell", 1, "1.00").order_id > resting.order_id)
        pages = [StatusReader(plan.status_path) for plan in plans]
        members = [page.slot("kafka", 0) for page in pages]
        until(lambda: sum(member[counter_place(KAFKA, "trades")] for member in members) == 1)

    config = make_config(extra='[http]\naddress = "127.0.0.1:0"\n' + broker.text("any"))
    with TemporaryDirectory(prefix="sb-") as directory:
        verdict = run_nodes(config, 2, Path(directory), use, told.append)
    assert verdict.problems == 0, verdict.lines
    assert any("2 nodes have command 2 and trade 1" in line for line in verdict.lines)
    assert any(line.endswith("trades has 1 trades, 1-1") for line in verdict.lines)
    assert [line for line in told if line.startswith("node 1: http://127.0.0.1:")]


def lines_in(log_dir: Path) -> list[bytes]:
    """Return the lines of a trade log."""
    return (log_dir / "trades.ndjson").read_bytes().splitlines()


@servers
def test_recorded_flows_through_one_node_are_the_known_fills_on_all(
    broker: Brokers, data_dir: Path, tmp_path: Path
) -> None:
    files = [data_dir / RECORDED[name] for name in ("GOOG", "BTCUSD")]
    config = config_for([read_flow(file) for file in files])
    http = replace(config.http, address="127.0.0.1:0")
    config = replace(config, kafka=broker.section("any", snapshot_ms=0), http=http)
    out, trades = tmp_path / "fills.csv", 7_759 + 284

    def use(plans: list[Plan]) -> None:
        summary = replayed(files, str(plans[0].addresses()[0]), fills=out)
        assert summary.trades == trades
        pages = [StatusReader(plan.status_path) for plan in plans]
        members = [page.slot("kafka", 0) for page in pages]
        until(lambda: sum(member[counter_place(KAFKA, "trades")] for member in members) >= trades)

    with TemporaryDirectory(prefix="sb-") as directory:
        verdict = run_nodes(config, 3, Path(directory), use, lambda _: None)
        logs = {
            tuple(
                sorted((Path(directory) / f"node-{n}/log/trades.ndjson").read_bytes().splitlines())
            )
            for n in range(3)
        }
    assert verdict.problems == 0, verdict.lines
    assert any("trades has 7759 trades, 1-7759" in line for line in verdict.lines)
    assert any("trades has 284 trades, 1-284" in line for line in verdict.lines)
    assert [len(lines) for lines in logs] == [trades]
    for name, fills in (("GOOG", "GOOG_merged_fills"), ("BTCUSD", "BTCUSD_fills")):
        mine = [line for line in out.read_text().splitlines() if line.startswith(f"{name},")]
        wanted = recorded_fills(data_dir / f"{fills}.csv.gz")[1:]
        assert [line.removeprefix(f"{name},") for line in mine] == wanted


def test_what_makes_commands_durable_is_the_log() -> None:
    for durability in ("fsync", "off"):
        text = f'[cluster]\nenabled = true\n[journal]\ndurability = "{durability}"\n'
        with pytest.raises(ConfigError, match=r"cluster.enabled = true: journal.durability"):
            make_config(extra=text)
