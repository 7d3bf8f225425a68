"""History in MongoDB: what holds for it as for the others, and what is its own."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from engine.accept_loss import accept_loss
from engine.config import ConfigError
from engine.history import mongo_lock
from engine.history.archive import month_of
from engine.history.destination import AwayError, HistoryError
from engine.history.exporter import Exporter
from engine.history.history import Page, everything
from engine.history.kept import MONGODB
from engine.plan import Plan
from engine.shard.holds import release
from engine.shard.snapshotter import take_snapshot
from engine.supervisor import ServeError, Supervisor
from frontend.client import Client
from frontend.roles import ROLES
from ipc.vocabulary import OrdStatus
from tests.books import command_array
from tests.exporting import NAME, export
from tests.histories import (
    MongoStore,
    SqliteStore,
    destination,
    planned,
    problems,
    reader,
    verified,
)
from tests.kept import TIME_NS, commands_for, recovered, write_journal
from tests.product import config_text, make_config, until
from tests.test_client_texts import named
from tests.test_history import lose_from, position_of, reached
from tests.test_history_product import positions, run, trade
from tests.test_history_reading import as_signed, plain_orders
from tests.test_serve import served
from tests.test_snapshot import SMALL, log_trades

pytestmark = pytest.mark.servers
pytest.importorskip("pymongo")

from engine.history import mongo  # noqa: E402  # what the extra brings

KILLS = int(os.environ.get("SHARDBOOK_EXPORTER_KILLS", "4"))


def exported(directory: Path, store: MongoStore, count: int = 3_000) -> Plan:
    """Return a plan whose history is there."""
    plan = planned(directory, store, SMALL)
    write_journal(plan, commands_for(plan, count))
    log_trades(plan)
    export(plan, store)
    return plan


def test_all_that_a_journal_comes_to_is_there_once(tmp_path: Path, mongo_store: MongoStore) -> None:
    plan = exported(tmp_path, mongo_store)
    lines = verified(plan, mongo_store)
    whole, _ = recovered(plan)
    orders = whole.shard.book.counters().order_sequence
    assert f"shard 0: order_rows: {orders} of {orders} that were given, 0 lost before" in lines
    assert f"fills: {orders}, each with its trades once" in lines
    export(plan, mongo_store)
    assert verified(plan, mongo_store) == lines
    write_journal(plan, commands_for(plan, 1_000, 2), end=whole.end)
    log_trades(plan)
    export(plan, mongo_store, events=True)
    verified(plan, mongo_store)
    with mongo_store.opened() as database:
        reports = recovered(plan)[0].shard.account_sequences.reports
        [last] = database.order_events.find().sort("_id", -1).limit(1)
        [first] = database.order_events.find().sort("_id", 1).limit(1)
        assert last["_id"] == reports
        assert database.order_events.count_documents({}) == last["_id"] - first["_id"] + 1
        # An order's document is as people expect it.
        found = database.orders.find_one({"status": "FILLED", "fills.1": {"$exists": True}})
        made = list(
            database.trades.find(
                {"$or": [{"buy_order_id": found["_id"]}, {"sell_order_id": found["_id"]}]}
            ).sort("_id")
        )
    assert found["order_id"] == found["_id"]
    assert found["side"] in ("BUY", "SELL")
    assert found["symbol"] in ("AA", "BB")
    assert [fill["trade_id"] for fill in found["fills"]] == [trade["trade_id"] for trade in made]
    for fill, of in zip(found["fills"], made, strict=True):
        assert (fill["price"], fill["quantity"]) == (of["price"], of["quantity"])
    total = sum(fill["quantity"].to_decimal() for fill in found["fills"])
    assert total == found["filled_quantity"].to_decimal() == found["quantity"].to_decimal()
    paid = sum(f["quantity"].to_decimal() * f["price"].to_decimal() for f in found["fills"])
    assert abs(found["average_price"].to_decimal() - paid / total) < Decimal("1e-6")
    assert month_of(int(found["created_at"].timestamp()) * 10**9) == month_of(TIME_NS)


def test_texts_are_in_documents_and_rows(tmp_path: Path, mongo_store: MongoStore) -> None:
    plan = planned(tmp_path, mongo_store, SMALL)
    rows = [*named("first"), *named("second"), *named("take", side=2, quantity=7)]
    write_journal(plan, command_array(rows[:4]))
    export(plan, mongo_store)
    write_journal(plan, command_array(rows[4:]), end=recovered(plan)[0].end)
    export(plan, mongo_store)
    verified(plan, mongo_store)
    with mongo_store.opened() as database:
        found = database.orders.find().sort("_id")
        shown = [(order["client_order_id"], order["status"]) for order in found]
    assert shown == [("first", "FILLED"), ("second", "PARTIAL"), ("take", "FILLED")]
    with closing(reader(plan, mongo_store)) as history:
        kept = history.orders(Page(everything([0]), 9))[::-1]
        numbers = kept["client_order_id"].tolist()
        texts = history.texts(numbers)
        assert [texts[number] for number in numbers] == ["first", "second", "take"]


CHANGES = {
    "order 500: filled is": ("orders", 500, {"$inc": {"row.filled": 1}}),
    "order 9: value is": ("orders", 9, {"$inc": {"row.value_low": 1}}),
    "trade 300: price is": ("trades", 300, {"$inc": {"row.price": 1}}),
    "fills: 2 differ, the first is": ("trades", 300, {"$inc": {"row.buy_order_id": 1}}),
    "order_rows: ": ("orders", 500, None),
    "trade 300: is missing": ("trades", 300, None),
}


def test_a_difference_is_found(tmp_path: Path, mongo_store: MongoStore) -> None:
    plan = exported(tmp_path, mongo_store)
    for problem, (collection, key, change) in CHANGES.items():
        with mongo_store.opened() as database:
            there = database[collection].find_one({"_id": key})
            if change is None:
                database[collection].delete_one({"_id": key})
            else:
                database[collection].update_one({"_id": key}, change)
            found = problems(plan, mongo_store)
            assert any(problem in line for line in found), (problem, found)
            database[collection].replace_one({"_id": key}, there, upsert=True)
    verified(plan, mongo_store)


def test_pages_are_those_of_another_history(tmp_path: Path, mongo_store: MongoStore) -> None:
    plan, sqlite = exported(tmp_path, mongo_store), SqliteStore()
    release(plan.journal_dir(0), NAME)
    export(plan, sqlite)
    account = as_signed(plain_orders(plan)[1]["account"])
    middle = TIME_NS + 15
    with (
        closing(reader(plan, mongo_store)) as history,
        closing(reader(plan, sqlite)) as other,  # type: ignore[arg-type]
    ):
        for page in (
            Page({}, 97),
            Page({}, 97, symbol=2),
            Page({}, 97, account=account),
            Page({}, 97, account=account, symbol=1, from_ns=middle),
            Page({}, 97, to_ns=middle),
            Page({}, 97, statuses=[int(OrdStatus.FILLED), int(OrdStatus.NEW)], side=1),
        ):
            for here, there in ((history.orders, other.orders), (history.trades, other.trades)):
                below, pages = everything([0]), 0
                while len(rows := here(page._replace(below=below))):
                    assert rows.tobytes() == there(page._replace(below=below)).tobytes()
                    below = {0: int(rows[(rows.dtype.names or ())[0]][-1])}
                    pages += 1
                assert not len(there(page._replace(below=below))), (page, pages)
        for times in ((0, 1 << 62), (TIME_NS + 3, middle)):
            asked = 0, 1, 10, *times
            assert history.candles(*asked).tobytes() == other.candles(*asked).tobytes()
        assert history.order(7).tobytes() == other.order(7).tobytes()
        assert not len(history.order(1 << 40))
        # What it adds up to, too.
        rows = other.trades(Page(everything([0]), 1 << 20))
        [hour] = history.fills_an_hour("AA")
        of_aa = rows[rows["symbol"] == 1]
        tick = next(i for i in plan.known_instruments if i.symbol == "AA").lot
        assert hour[0] == datetime.fromtimestamp(TIME_NS // 10**9 // 3_600 * 3_600, UTC)
        assert hour[1] == len(of_aa)
        lots = sum(of_aa["quantity"].tolist())
        assert hour[2] == Decimal(tick.text(lots))
        start = datetime.fromtimestamp(TIME_NS // 10**9, UTC)
        volumes = history.volume_by_user(start, start + timedelta(hours=1))
        assert sum(volume for _, symbol, volume in volumes if symbol == "AA") == 2 * hour[2]
        assert history.volume_by_user(start - timedelta(hours=1), start) == []


def test_killed_at_any_moment_it_misses_and_doubles_nothing(
    tmp_path: Path, mongo_store: MongoStore
) -> None:
    """Exporter and server, by turns."""
    seed = random.randrange(1 << 30)
    print(f"SHARDBOOK_EXPORTER_SEED={seed} (kills: SHARDBOOK_EXPORTER_KILLS)")
    chance = random.Random(int(os.environ.get("SHARDBOOK_EXPORTER_SEED", seed)))
    plan = planned(tmp_path, mongo_store, SMALL)
    write_journal(plan, commands_for(plan, 8_000))
    log_trades(plan)
    config = tmp_path / "test.toml"
    config.write_text(config_text(1, 2, SMALL + mongo_store.section))
    command = [sys.executable, "-m", "tests.exporting", str(config), str(plan.data_dir), "mongodb"]
    for turn in range(KILLS):
        aim = position_of(plan, mongo_store) + chance.choice([1, 64, 500, 1_500])
        with subprocess.Popen(command) as process:
            until(partial(reached, plan, mongo_store, min(aim, 8_000), process))
            if turn % 2:
                mongo_store.server.kill()
                mongo_store.server.start()
                until(partial(reached, plan, mongo_store, min(aim + 64, 8_000), process))
            process.send_signal(signal.SIGKILL)
    export(plan, mongo_store)
    verified(plan, mongo_store)


def test_what_was_written_without_its_cursor_is_taken_once(
    tmp_path: Path, mongo_store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, mongo_store, SMALL)
    write_journal(plan, commands_for(plan, 3_000))
    log_trades(plan)
    monkeypatch.setattr("engine.history.exporter.BATCH_COMMANDS", 900)
    commit = mongo.MongoDestination._commit
    for part in range(3):
        cut = commit if part == 2 else _fails_after(commit, 1 + part)
        monkeypatch.setattr(mongo.MongoDestination, "_commit", cut)
        monkeypatch.setattr("engine.history.exporter.BATCH_COMMANDS", 900 - 150 * part)
        with closing(destination(plan, mongo_store)) as opened:
            exporter = Exporter(plan, opened, NAME)
            while exporter.step():
                pass
            exporter.close()
        with mongo_store.opened() as database:
            [shard] = database.shards.find()
            assert (shard["trying"]["position"] > shard["position"]) == (part < 2)
    verified(plan, mongo_store)


def _fails_after(commit, count):  # type: ignore[no-untyped-def]
    """Return a commit that fails once it was done so many times."""
    left = [count]

    def failing(self, cursor):  # type: ignore[no-untyped-def]
        left[0] -= 1
        if left[0] < 0:
            raise AwayError("cut here")
        commit(self, cursor)

    return failing


def test_a_second_exporter_is_refused_and_one_that_stands_still_loses(
    tmp_path: Path, mongo_store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = exported(tmp_path, mongo_store, 200)
    first = destination(plan, mongo_store)
    stopping = threading.Event()

    def beat() -> None:
        while not stopping.wait(0.05):
            first.tidy()

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        refused = f"another exporter writes to it: process {os.getpid()} of this machine"
        monkeypatch.setattr("engine.history.mongo_lock.REFUSED_S", 0.3)
        with pytest.raises(HistoryError, match=refused):
            destination(plan, mongo_store)
    finally:
        stopping.set()
        beating.join()
    monkeypatch.setattr("engine.history.mongo_lock.LOCK_WAIT_S", 0.3)
    second = destination(plan, mongo_store)
    with pytest.raises(HistoryError, match="another exporter has taken its lock"):
        first.tidy()
    first.close()
    second.tidy()
    second.close()


def test_an_exporter_that_ends_with_its_product_is_waited_for(
    tmp_path: Path, mongo_store: MongoStore
) -> None:
    plan = exported(tmp_path, mongo_store, 200)
    with subprocess.Popen(["sleep", "60"]) as old, mongo_store.opened() as database:
        owner = f"{mongo_lock._machine()} {old.pid} 0"
        database.lock.insert_one({"_id": "writer", "owner": owner, "beats": 0})

        def end() -> None:
            for _ in range(10):  # its last steps
                database.lock.update_one({"_id": "writer"}, {"$inc": {"beats": 1}})
                time.sleep(0.05)
            old.kill()
            old.wait()

        ending = threading.Thread(target=end)
        ending.start()
        destination(plan, mongo_store).close()
        ending.join()


def test_what_is_none_or_another_is_refused(tmp_path: Path, mongo_store: MongoStore) -> None:
    plan = planned(tmp_path / "one", mongo_store, SMALL)
    other = planned(tmp_path / "other", mongo_store, SMALL)
    with mongo_store.opened() as database:
        database.people.insert_one({"name": "somebody"})
        with pytest.raises(HistoryError, match="has a collection people, but is no history"):
            destination(plan, mongo_store)
        database.people.drop()
    write_journal(plan, commands_for(plan, 500), secret=1)
    write_journal(other, commands_for(other, 500), secret=2)
    export(plan, mongo_store)
    with pytest.raises(HistoryError, match="filled from another data directory"):
        export(other, mongo_store)
    with mongo_store.opened() as database:
        database.meta.update_one({}, {"$set": {"version": 7}})
        for opens in (destination, lambda *of: reader(*of).cursors()):
            with pytest.raises(HistoryError, match="has schema version 7, this product knows 1"):
                opens(plan, mongo_store)
        database.meta.update_one({}, {"$set": {"version": 1}})
        database.trades.drop()
        for opens in (destination, lambda *of: reader(*of).cursors()):
            with pytest.raises(HistoryError, match="the collection trades is missing; drop the"):
                opens(plan, mongo_store)


def test_once_a_loss_is_accepted_no_id_is_given_again(
    tmp_path: Path, mongo_store: MongoStore
) -> None:
    """Also not one that was being written when it was cut off."""
    plan = planned(tmp_path, mongo_store, SMALL)
    commands = commands_for(plan, 3_000)
    write_journal(plan, commands)
    export(plan, mongo_store)
    before = recovered(plan)[0].shard.book.counters()
    with mongo_store.opened() as database:  # as if it had not been said to be written
        [shard] = database.shards.find()
        assert shard["trying"]["position"] == 3_000
        database.shards.update_one({}, {"$set": {"position": 2_900, "orders": 1, "trades": 1}})
    lose_from(plan, commands, 2_950)
    log_trades(plan)
    supervisor = Supervisor(plan, print, ROLES)
    with pytest.raises(ServeError, match=r"the history has command 3000.*--accept-loss"):
        supervisor.start()
    supervisor.stop()
    accept_loss(plan)
    counters = recovered(plan, before.trade_sequence)[0].shard.book.counters()
    assert counters.order_sequence > before.order_sequence
    assert counters.trade_sequence >= before.trade_sequence


def test_an_exporter_that_was_let_go_of_says_so_and_goes_on(
    tmp_path: Path, mongo_store: MongoStore
) -> None:
    plan = planned(tmp_path, mongo_store, SMALL, engine="ended_orders = 50\n")
    write_journal(plan, commands_for(plan, 1_000))
    log_trades(plan)
    export(plan, mongo_store)
    release(plan.journal_dir(0), NAME)
    end = recovered(plan, log_trades(plan))[0].end
    for part in range(1, 6):
        write_journal(plan, commands_for(plan, 1_000, part), end=end)
        last = log_trades(plan)
        take_snapshot(plan, 0)
        end = recovered(plan, last)[0].end
    export(plan, mongo_store)
    verified(plan, mongo_store)
    with mongo_store.opened() as database:
        assert database.orders.count_documents({"status": "UNKNOWN"}) > 0
        [note] = database.notes.find()
        assert "no journal has commands 1001 to" in note["note"]
        # What is open has paid what its trades say, also those from before.
        paid: dict[int, int] = {}
        for row in (found["row"] for found in database.trades.find()):
            for side in ("buy_order_id", "sell_order_id"):
                paid[row[side]] = paid.get(row[side], 0) + row["price"] * row["quantity"]
        for row in (found["row"] for found in database.orders.find()):
            assert row["value_low"] == paid.get(row["order_id"], 0), row


def test_a_server_that_is_away_costs_the_product_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    mongo_store: MongoStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MONGODB_PASSWORD", "a-secret")
    server = mongo_store.server
    server.stop()
    try:
        with (
            served(tmp_path_factory.mktemp("s"), mongo_store.section) as serving,
            Client(serving.plan.addresses()[0], "alice") as client,
        ):
            trade(client, 20)
            assert serving.member("mongodb").state == "ready"
            server.start()
            until(lambda: positions(serving.plan, mongo_store) == {0: (40, 20), 1: (40, 20)})
            server.kill()
            trade(client, 20)
            server.start()
            until(lambda: positions(serving.plan, mongo_store) == {0: (80, 40), 1: (80, 40)})
            assert run(capsys, serving, "verify", "--source", "mongodb")[0] == 0
            code, out = run(capsys, serving, "query", "orders", "--user", "alice", "--limit", "3")
            assert (code, out.count("alice")) == (0, 3)
            with mongo_store.opened() as database:
                until(lambda: not database.trades.count_documents({"buyer": None}))
                assert database.orders.count_documents({"user_id": "alice"}) == 160
        assert "a-secret" not in "".join(serving.lines)
    finally:
        server.start()


def test_a_uri_may_hold_no_secret() -> None:
    for uri in ("mongodb://me:secret@host", "http://host", "mongodb://"):
        with pytest.raises(ConfigError, match="without user and password") as found:
            make_config(1, 1, f'[mongodb]\nuri = "{uri}"\n')
        assert MONGODB.name in str(found.value)
        assert "secret" not in str(found.value)
