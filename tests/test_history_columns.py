"""What history keeps of an order: all that the order table shows, whatever orders come to bear."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.flows import PROFILES, Flow
from engine.books.choice import book_limits
from engine.history import postgres_schema, sqlite_schema
from engine.history.destination import HistoryError
from engine.history.history import Page, everything
from engine.history.kept import SQLITE
from engine.history.rows import FIRST_COLUMNS, LATER_COLUMNS, as_orders
from engine.history.sqlite import SqliteDestination
from engine.history.sqlite_reader import SqliteHistory
from frontend.history_commands import _with_names, order_row
from frontend.history_parquet import Columns
from ipc.records import ORDER
from tests.books import command_array
from tests.exporting import export
from tests.histories import Store, destination, planned, reader, verified
from tests.kept import TIME_NS, TIME_STEP, recovered, write_journal
from tests.test_client_texts import named
from tests.test_snapshot import SMALL

SEED = 3


def test_an_order_is_kept_as_the_order_table_has_it(tmp_path: Path, store: Store) -> None:
    """A field of orders that is new fails here until history keeps it as the table does."""
    plan = planned(tmp_path, store, SMALL)
    limits = tuple(book_limits(i) for i in plan.instruments_of(0))
    profile = replace(PROFILES["stops"], limits=limits, faults=0.0, minded=0.5)
    commands = Flow(profile, SEED).commands(4_000)
    commands["timestamp_ns"] = TIME_NS + np.arange(len(commands)) // TIME_STEP
    half = len(commands) // 2
    write_journal(plan, commands[:half])
    export(plan, store)
    write_journal(plan, commands[half:], end=recovered(plan)[0].end)
    export(plan, store)
    whole, _ = recovered(plan)
    shown = whole.shard.table.contents()
    shown = shown[np.argsort(shown["order_id"])]
    history = reader(plan, store)
    kept = as_orders(history.orders(Page(everything([0]), 10_000))[::-1])
    history.close()
    kept = kept[np.isin(kept["order_id"], shown["order_id"])]
    assert len(shown) > 500
    assert shown["stop_price"].any()
    for name in ORDER.names or ():
        if name not in ("reserved", "end_number"):  # of the table's slots
            assert (kept[name] == shown[name]).all(), name
    verified(plan, store)
    [(stops, triggered)] = store.ask(
        plan, "SELECT count(stop_price), sum(CASE WHEN triggered THEN 1 ELSE 0 END) FROM orders"
    )
    assert (stops > 100, triggered > 10) == (True, True)
    modes = store.ask(plan, "SELECT DISTINCT self_trade_prevention FROM orders")
    assert len(modes) == len(np.unique(kept["flags"] >> 1 & 7)) > 1


def test_texts_are_kept_beside_the_orders_that_have_them(tmp_path: Path, store: Store) -> None:
    plan = planned(tmp_path, store, SMALL)
    texts = [f"order-{n}" for n in range(30)]
    exits = {"command_type": 7, "minimum_quantity": 110, "stop_price": 90}
    rows = [row for text in texts for row in named(text)] + named("list", **exits)
    rows.append(rows[1] | {"client_order_id": 9})
    write_journal(plan, command_array(rows))
    export(plan, store)
    orders = recovered(plan)[0].shard.table.contents()
    history = reader(plan, store)
    kept = history.orders(Page(everything([0]), 100))[::-1]
    numbers = kept["client_order_id"].tolist()
    found = history.texts(numbers)
    [(rows, names)] = _with_names(history, "orders", iter([kept]))
    history.close()
    instruments = {i.number: i for i in plan.known_instruments}
    printed = [order_row(row, instruments, names)["client_order_id"] for row in rows]
    assert printed == [*texts, "list", "list.2", "list.3", 9]
    table = Columns(instruments).orders(rows, names)
    assert table["client_order_text"].to_pylist() == [*printed[:-1], None]
    assert table["client_order_id"].to_pylist() == [*[None] * (len(printed) - 1), 9]
    shown = [found.get(number, number) for number in numbers]
    assert shown == [*texts, "list", "list.2", "list.3", 9]
    assert as_orders(kept)["client_order_id"].tolist() == orders["client_order_id"].tolist()
    verified(plan, store)
    own = "client_order_text" if store.kept is not SQLITE else "client_order_id"
    some = "FROM orders WHERE order_id IN (7, 31, 34) ORDER BY order_id"
    assert store.ask(plan, f"SELECT {own} {some}") == [
        ("order-6",),
        ("list",),
        (9 if store.kept is SQLITE else None,),
    ]
    if store.kept is not SQLITE:
        assert store.ask(plan, f"SELECT client_order_id {some}") == [(None,), (None,), (9,)]
    with closing(destination(plan, store)) as opened:
        cursor = opened.cursors()[0]
        opened.begin(cursor._replace(position=cursor.position + 1), kept, "", {1 << 63: "more"})
    history = reader(plan, store)
    assert history.texts([1 << 63]) == {-(1 << 63): "more"}
    history.close()


def test_the_views_show_every_later_column(tmp_path: Path, store: Store) -> None:
    plan = planned(tmp_path, store, SMALL)
    destination(plan, store).close()
    for name in LATER_COLUMNS:
        assert store.ask(plan, f"SELECT {name} FROM orders") == []


def test_a_file_of_the_first_version_is_taken_to_this_one(tmp_path: Path) -> None:
    path, new = tmp_path / "history.sqlite", tmp_path / "new.sqlite"
    old = sqlite3.connect(path)
    for statement in sqlite_schema.STATEMENTS[: -len(sqlite_schema.LATER_STATEMENTS)]:
        for name in LATER_COLUMNS:
            statement = statement.replace(f", {sqlite_schema.later(name)}", "")  # noqa: PLW2901
        old.execute(statement)
    old.execute("CREATE VIEW orders AS SELECT 1")
    old.execute(f"INSERT INTO order_rows VALUES ({','.join('7' * len(FIRST_COLUMNS))})")
    old.execute(f"PRAGMA application_id = {sqlite_schema.APPLICATION}")
    old.execute("PRAGMA user_version = 1")
    old.commit()
    old.close()
    with pytest.raises(HistoryError, match=r"has schema version 1.*the exporter renews it"):
        SqliteHistory(path).cursors()
    SqliteDestination(path).close()
    SqliteDestination(new).close()
    tables = "SELECT name, sql FROM sqlite_master ORDER BY name"
    assert sqlite3.connect(path).execute(tables).fetchall() == (
        sqlite3.connect(new).execute(tables).fetchall()
    )
    [order] = SqliteHistory(path).order(7)
    assert order["stop_price"] == 0
    assert order["updated_ns"] == 7


def test_a_database_of_the_first_version_is_taken_to_this_one(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store.kept is SQLITE:
        return
    plan = planned(tmp_path, store, SMALL)
    begins = ",\nCASE WHEN o.stop_price"
    named = "\nLEFT JOIN client_texts c ON c.number = o.client_order_id"
    views = [
        view[: view.index(begins)] + view[view.index("\nFROM") :].replace(named, "")
        if begins in view
        else view
        for view in postgres_schema.VIEWS
    ]
    with monkeypatch.context() as change:
        change.setattr(postgres_schema, "MIGRATIONS", postgres_schema.MIGRATIONS[:1])
        change.setattr(postgres_schema, "VERSION", 1)
        change.setattr(postgres_schema, "VIEWS", views)
        change.setattr("engine.history.postgres.VERSION", 1)
        destination(plan, store).close()
    store.ask(plan, "GRANT SELECT ON orders TO public")
    with pytest.raises(HistoryError, match="has version 1, this product needs"):
        reader(plan, store).cursors()
    destination(plan, store).close()
    assert store.ask(plan, "SELECT stop_price, triggered FROM orders") == []
    [(granted,)] = store.ask(
        plan,
        "SELECT count(*) FROM information_schema.role_table_grants WHERE table_name = 'orders' "
        "AND grantee = 'PUBLIC'",
    )
    assert granted == 1
    # Words that are new make a view anew, without a new version.
    store.ask(plan, "UPDATE relations SET description = 'other' WHERE name = 'views'")
    destination(plan, store).close()
    reader(plan, store).cursors()
    [(digest,)] = store.ask(plan, "SELECT description FROM relations WHERE name = 'views'")
    assert len(str(digest)) == 64
