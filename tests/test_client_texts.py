"""client_order_ids that are texts: numbers inside, kept as they were given, shown everywhere."""

import random
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.equality import BOOKS as BOTH
from engine.books.contract import BookLimits, Records, state_hash
from engine.journal.format import JournalError
from engine.journal.snapshot import read_snapshot, write_snapshot
from engine.shard.plain_pipeline import PlainPipeline
from engine.storage import Storage
from ipc.bounds import MAX_CLIENT_ID, MAX_TEXT, TEXT_BIT
from ipc.client_ids import KnownTexts, is_client_text, name_row, number_of
from ipc.memory.order_table import OrderTableWriter, TableFullError, create_table
from ipc.memory.order_table_reader import OrderTableReader
from ipc.records import COMMAND, REPORT, TRADE, CommandRow
from ipc.vocabulary import Administration, CommandType, ExecType, OrdStatus, Reason, TimeInForce
from ipc.wire.frames import FrameSplitter, frame
from ipc.wire.matcher_codec import CommandDecoder, ReportEncoder, command_row
from ipc.wire.messages import MAX_BODY, Cancel, MassCancel, NewOrder, Reject, Report, server_decoder
from tests.books import TIME_NS, WIDE, Desk, MakeBook, command_array, run
from tests.kept import plan_of, recovered, write_journal
from tests.test_pipeline import SYMBOLS, Shown, needs_both

UUID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
ACCOUNT = 77


@pytest.fixture(params=BOTH)
def make_book(request: pytest.FixtureRequest) -> MakeBook:
    """The constructor of each of both books in turn."""
    return BOTH[request.param]


def named(text: str, **fields: int) -> list[dict[str, int]]:
    """Return a NAME and the command behind it, a new order unless fields say otherwise."""
    usual = {
        "command_type": 1, "symbol": 1, "account": 1, "side": 1, "order_type": 2,
        "time_in_force": 1, "price": 100, "quantity": 5, "timestamp_ns": TIME_NS,
    }  # fmt: skip
    row = usual | fields
    name = name_row(text, row["account"], row["timestamp_ns"])
    return [name._asdict(), row | {"client_order_id": number_of(text)}]


def messages_of(data: bytes) -> list[Any]:
    """Return the messages of whole frames."""
    return [server_decoder.decode(body) for _, body in FrameSplitter(MAX_BODY).feed(data)]


# What a text is -----------------------------------------------------------------------------------


def test_a_text_has_a_character_that_is_no_digit() -> None:
    right = ("a", UUID, "1x", "-", "a" * MAX_TEXT, "!~")
    wrong = ("", "123", "a b", "a\n", "a" * (MAX_TEXT + 1), "é", "\0")
    assert all(is_client_text(text.encode()) for text in right)
    assert not any(is_client_text(text.encode()) for text in wrong)


def test_numbers_of_texts_are_no_clients_numbers_and_differ() -> None:
    texts = [UUID, *(str(uuid.UUID(int=n)) for n in range(3_000))]
    numbers = {number_of(text) for text in texts}
    assert len(numbers) == len(texts)
    assert min(numbers) > MAX_CLIENT_ID
    first = number_of(UUID)
    assert [number_of(f"{UUID}.{n}") - first for n in (2, 3)] == [1, 2]
    assert number_of(f"{UUID}.4") & 3 == 0


# Books --------------------------------------------------------------------------------------------


def test_texts_are_unique_by_the_rule_of_numbers(make_book: MakeBook) -> None:
    book = make_book(0, [WIDE, BookLimits(2, 1, 1_000, 99)], 2)
    rows = [*named("a"), *named("b"), *named("a"), *named("a", account=2), *named("a", symbol=2)]
    rows += [*named("a", command_type=2), *named("c"), *named("d"), *named("e"), *named("a")]
    reports = run(book, command_array(rows)).report_rows()
    kinds = [(ExecType(r.exec_type).name, r.order_id) for r in reports]
    assert kinds == [
        ("NEW", 1), ("NEW", 2), ("REJECTED", 1), ("NEW", 3), ("NEW", 4), ("CANCELED", 1),
        ("NEW", 5), ("NEW", 6), ("NEW", 7), ("NEW", 8),
    ]  # fmt: skip
    assert reports[2].reason == Reason.DUPLICATE_CLIENT_ORDER_ID
    assert [r.client_order_id for r in reports[:3]] == [number_of(t) for t in "aba"]
    book.check()
    assert book.counters().sequence == len(rows)


def test_the_orders_of_a_list_have_texts_in_a_row(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [WIDE], 99))
    exits = {"command_type": 7, "minimum_quantity": 110, "stop_price": 90}
    reports = run(desk.book, command_array(named("list", **exits))).report_rows()
    texts = [number_of(text) for text in ("list", "list.2", "list.3")]
    assert [r.client_order_id for r in reports] == texts
    [again] = run(desk.book, command_array(named("list.3"))).report_rows()
    assert (again.reason, again.order_id) == (Reason.DUPLICATE_CLIENT_ORDER_ID, 3)
    [wrong] = run(desk.book, command_array(named("new.2", **exits))).report_rows()
    assert wrong.reason == Reason.INVALID_LIST


def test_a_name_is_nothing_to_a_book(make_book: MakeBook) -> None:
    """Nor does anything expire before it: it goes with its command."""
    desk = Desk(make_book(0, [WIDE], 99))
    ends = {"time_in_force": TimeInForce.GTD, "expire_time_ns": TIME_NS + 5}
    desk.enter(command_array(named("a", **ends)))
    before = state_hash(desk.book)
    rows = named("b", timestamp_ns=TIME_NS + 5)
    reports, trades = np.zeros(9, REPORT), np.zeros(0, TRADE)
    progress = desk.book.process(command_array(rows[:1]), reports, trades)
    assert tuple(progress) == (1, 0, 0)
    assert desk.book.next_expiry_ns == TIME_NS + 5
    assert state_hash(desk.book) != before  # it counts
    found = run(desk.book, command_array(rows[1:])).report_rows()
    assert [r.exec_type for r in found] == [ExecType.EXPIRED, ExecType.NEW]


@pytest.mark.parametrize("room", [2, 3, 5])
def test_a_name_and_its_command_begin_in_one_call(make_book: MakeBook, room: int) -> None:
    rows = [row for n in range(9) for row in named(f"order {n}".replace(" ", "-"))]
    rows += named("take", side=2, price=100, quantity=42)
    commands = command_array(rows)
    book = make_book(0, [WIDE], 99)
    reports, trades = np.zeros(room, REPORT), np.zeros(9, TRADE)
    done = 0
    while done < len(commands):
        progress = book.process(commands[done:], reports, trades)
        done += progress.commands
        begun = book.counters().sequence
        assert begun % 2 == 0, "a NAME alone"
    assert len(book.resting()) == 1


# The matcher's edge -------------------------------------------------------------------------------


def decoded(*messages: NewOrder | Cancel | MassCancel, room: int = 9) -> list[list[CommandRow]]:
    """Return the batches that frames become with room for so many commands."""
    decoder = CommandDecoder(1 << 20)
    decoder.open_stream(1, ACCOUNT)
    decoder.feed(b"".join(frame(message, 1) for message in messages))
    batches = []
    while decoder.pending_bytes:
        commands = np.zeros(room, COMMAND)
        count, odd = decoder.read(commands, 0, 5)
        assert odd is None
        batches.append([CommandRow(*row) for row in commands[:count].tolist()])
    return batches


@pytest.mark.parametrize("room", [2, 3, 4])
def test_a_frame_with_a_text_is_a_name_and_a_command(room: int) -> None:
    plain = NewOrder(1, 1, 12, 1, 2, 1, 100, 5)
    order, cancel = NewOrder(1, 2, UUID, 1, 2, 1, 100, 5), Cancel(1, 3, 0, UUID)
    batches = decoded(plain, order, plain, cancel, plain, room=room)
    names = name_row(UUID, ACCOUNT, 5)
    found = [row for batch in batches for row in batch]
    expected = [
        command_row(message, ACCOUNT, 5) for message in (plain, order, plain, cancel, plain)
    ]
    assert found == [expected[0], names, *expected[1:3], names, *expected[3:]]
    assert all(batch[-1].command_type != Administration.NAME for batch in batches)


def test_a_report_has_the_text_in_place_of_the_number() -> None:
    encoder = ReportEncoder()
    encoder.open_stream(1, ACCOUNT)
    reports = np.zeros(3, REPORT)
    reports["account"], reports["order_id"] = ACCOUNT, [5, 6, 0]
    reports["client_order_id"] = [number_of(UUID), 12, number_of("lost")]
    reports["exec_type"][2], reports["reason"][2] = ExecType.REJECTED, Reason.UNKNOWN_ORDER
    texts = {number_of(UUID): UUID}
    found = messages_of(bytes(encoder.encode(reports, lambda _, number: texts.get(number))))
    assert [type(message) for message in found] == [Report, Report, Reject]
    assert [m.client_order_id for m in found] == [UUID, 12, number_of("lost")]  # type: ignore[union-attr]


# Order table --------------------------------------------------------------------------------------


def entered(order_id: int, text: str, **fields: int) -> Records:
    report = np.zeros(1, REPORT)
    report["order_id"], report["client_order_id"] = order_id, number_of(text)
    report["account"], report["symbol"], report["leaves_qty"] = ACCOUNT, 1, 5
    for name, value in fields.items():
        report[name] = value
    return report


def note(table: OrderTableWriter, *texts: str) -> None:
    table.note_texts(command_array(row for text in texts for row in named(text)))


def test_texts_are_kept_with_their_orders(tmp_path: Path) -> None:
    create_table(tmp_path / "table", 0, 40, 9)
    table, reader = OrderTableWriter(tmp_path / "table"), OrderTableReader(tmp_path / "table")
    texts = [f"{UUID}-{n:02}" for n in range(60)]
    for n, text in enumerate(texts, start=1):
        note(table, text)
        table.apply(entered(n, text))
        table.apply(entered(n, text, exec_type=ExecType.CANCELED, ord_status=OrdStatus.CANCELED))
    kept = table.contents()
    assert 9 <= len(kept) < 60
    for order in kept:
        text = texts[int(order["order_id"]) - 1]
        assert reader.client_order_id(order) == text
        assert table.text_of(int(order["order_id"]), number_of(text)) == text
    assert reader.text_of(1, number_of(texts[0])) is None
    rows = table.texts_of(kept)
    create_table(tmp_path / "other", 0, 40, 9)
    other, shown = OrderTableWriter(tmp_path / "other"), OrderTableReader(tmp_path / "other")
    other.adopt(kept, rows)
    assert other.contents().tobytes() == kept.tobytes()
    assert other.texts_of(kept).tobytes() == rows.tobytes()
    assert [shown.client_order_id(o) for o in kept] == [texts[i - 1] for i in kept["order_id"]]


def test_a_table_without_texts_has_no_memory_for_any(tmp_path: Path) -> None:
    create_table(tmp_path / "table", 0, 100_000)
    table = OrderTableWriter(tmp_path / "table")
    reports = np.repeat(entered(1, "a"), 20_000)
    reports["order_id"], reports["client_order_id"] = np.arange(1, 20_001), 7
    table.apply(reports)
    blocks = (tmp_path / "table").stat().st_blocks
    note(table, "b")
    table.apply(entered(20_001, "b"))
    more = (tmp_path / "table").stat().st_blocks - blocks
    assert 512 * more >= 20_000 * MAX_TEXT
    note(table, "c")
    reports["order_id"] += 20_001
    table.apply(reports)
    assert OrderTableReader(tmp_path / "table").text_of(20_001, number_of("b")) == "b"


def test_no_memory_for_texts_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_table(tmp_path / "table", 0, 9)
    table = OrderTableWriter(tmp_path / "table")
    table.apply(entered(1, "a", client_order_id=5))

    def refuse(*_: int) -> None:
        raise OSError("full")

    monkeypatch.setattr(table.mapping, "reserve", refuse)
    with pytest.raises(TableFullError, match="no memory for texts"):
        note(table, "a")


def test_texts_are_known_in_the_round_behind_theirs_too() -> None:
    known = KnownTexts()
    rows = [*named("a"), *named("list", command_type=CommandType.NEW_BRACKET), *named("b")]
    assert known.note(command_array(rows[:-1]))
    found = [known.find(number_of(t)) for t in ("a", "a.2", "list", "list.3", "b", "c")]
    assert found == ["a", None, "list", "list.3", "b", None]
    assert not known.note(command_array(rows[-1:]))
    assert known.note(command_array(named("c")))
    assert [known.find(number_of(text)) for text in "abc"] == ["a", "b", "c"]
    assert known.note(command_array(named("d")))
    assert [known.find(number_of(text)) for text in "abcd"] == [None, None, "c", "d"]
    assert known.note(command_array(named("e.2", command_type=CommandType.NEW_OCO)))
    assert known.find(number_of("e.2")) == "e.2"


@needs_both
@pytest.mark.parametrize("reports", [2, 5, 4096])
def test_texts_are_shown_alike_by_both_ways(tmp_path: Path, reports: int) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    rows: list[dict[str, int]] = []
    texts = [f"{UUID}-{n}" for n in range(60)]
    for _ in range(400):
        kind = rng.choice((1, 1, 1, 2, 3, 7))
        fields = {
            "command_type": kind, "symbol": rng.choice(SYMBOLS), "account": rng.randint(1, 20),
            "side": rng.randint(1, 2), "price": rng.randint(995, 1_005), "timestamp_ns": 7,
            "quantity": rng.randint(1, 9),
        }  # fmt: skip
        if kind == 7:
            fields |= {"minimum_quantity": 1_100, "stop_price": 900, "side": 1}
        both = named(rng.choice(texts), **fields)
        rows += both if rng.random() < 0.7 else [both[1] | {"client_order_id": rng.randint(1, 50)}]
    commands = command_array(rows)
    given = {"capacity": 2_000, "reports": reports}
    shown = [
        Shown(tmp_path / "compiled", **given),  # type: ignore[arg-type]
        Shown(tmp_path / "plain", PlainPipeline, **given),  # type: ignore[arg-type]
        Shown(tmp_path / "other", book="reference", **given),  # type: ignore[arg-type]
    ]
    for first in range(0, len(commands), 40):
        for one in shown:
            one.match(commands[first : first + 40], 7)
    for one in shown:
        one.take_trades()
    states, told = [], []
    for one in shown:
        state = one.state()
        told.append([messages_of(data) for data in state[6]])  # type: ignore[attr-defined]
        states.append(state[:6] + state[7:])
    assert states[0] == states[1] == states[2]
    for one, other in ((told[0], told[1]), (told[0], told[2])):
        for mine, others in zip(one, other, strict=True):
            assert len(mine) == len(others)
            for a, b in zip(mine, others, strict=True):
                assert a == b
    ids = [message.client_order_id for message in told[0][0]]
    assert ids.count(0) == 0
    assert not any(isinstance(one, int) and one >= TEXT_BIT for one in ids)
    shown_texts = {one.split(".")[0] for one in ids if isinstance(one, str)}
    assert len(shown_texts) > 20
    assert shown_texts <= set(texts)
    named_orders = shown[0].table.texts_of(shown[0].table.contents())
    assert named_orders.tobytes() == shown[1].table.texts_of(shown[1].table.contents()).tobytes()
    assert len(named_orders)


# Snapshots ----------------------------------------------------------------------------------------


def test_a_snapshot_has_the_texts_of_its_orders_and_no_others(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    write_journal(plan, command_array([*named("a"), *named("b", command_type=2), *named("c")]))
    found, _ = recovered(plan)
    snapshot = found.shard.snapshot()
    found.shard.close()
    path = write_snapshot(plan.journal_dir(0), snapshot, Storage())
    assert read_snapshot(path).texts["text"].tolist() == [b"a", b"c"]
    again = recovered(plan)[0].shard
    assert again.table.texts_of(again.table.contents()).tobytes() == snapshot.texts.tobytes()
    texts = snapshot.texts
    other = texts.copy()
    other["text"][1] = b"d"
    for wrong, why in (
        (texts[:1], "orders: client_order_id .* has no text"),
        (texts[::-1].copy(), "texts: order_id .* must be that of the next order"),
        (np.concatenate((texts, texts[1:])), "texts: order_id .* must be that of the next order"),
        (other, "texts: text = b'd': must be what its order's client_order_id stands for"),
    ):
        write_snapshot(plan.journal_dir(0), replace(snapshot, texts=wrong), Storage())
        with pytest.raises(JournalError, match=why):
            read_snapshot(path)
