"""One declaration of what crosses a boundary: all that follows from it is there, and fresh."""

from enum import IntEnum
from typing import get_args

import msgspec
import numpy as np
import pytest

from engine.books.contract import BookLimits
from frontend.gateway.frame_sorter import StreamSorter, SymbolSorter
from frontend.http import errors, market_models, order_fields, order_models, order_views
from ipc import reasons
from ipc.records import REPORT
from ipc.schema import declarations
from ipc.schema.declarations import FIELD, FROM_CLIENT, ROWS, Row, place_problem, tag_problem
from ipc.schema.generate import generated
from ipc.vocabulary import RULES, CommandType, ExecType, OrderType, Side, TimeInForce
from ipc.wire.frames import HEADER, FrameSplitter
from ipc.wire.matcher_codec import ReportEncoder
from ipc.wire.messages import COMMAND_TAGS, MAX_BODY, QUERY_TAGS, Report, server_decoder
from tests.books import WIDE, Desk, MakeBook

BUY, SELL = int(Side.BUY), int(Side.SELL)


def test_what_is_written_from_the_declarations_is_fresh() -> None:
    for path, text in generated().items():
        assert path.read_text() == text, f"{path.name}: run python -m ipc.schema.generate"


@pytest.mark.parametrize("name", ["NewOrder", "Cancel", "Replace", "Reduce", "Report"])
def test_a_field_that_a_message_alone_has_cannot_be_forgotten(name: str) -> None:
    row = ROWS[name]
    assert not place_problem(row)
    longer = row._replace(fields=(*row.fields, "trail: Amount = 0"))
    assert place_problem(longer if name == "Report" else _as_command(longer)) != ""


def _as_command(row: Row) -> Row:
    """Return a row that counts as a client's."""
    rows = tuple(row if other.name == row.name else other for other in FROM_CLIENT)
    declarations.FROM_CLIENT, former = rows, declarations.FROM_CLIENT
    try:
        assert "has no place in COMMAND" in place_problem(row)
    finally:
        declarations.FROM_CLIENT = former
    return row


TAGGED = [*(row for row in ROWS.values() if row.tag), *declarations.JOURNALLED]


@pytest.mark.parametrize("row", TAGGED, ids=lambda row: row.name)
def test_each_tag_is_of_the_range_of_its_kind(row: Row) -> None:
    assert not tag_problem(row)
    for tag in (128, 255, 9 if row.tag > 31 else 100, 9 if row.tag in range(64, 96) else 64):
        assert tag_problem(row._replace(tag=tag)), tag


def test_an_event_has_fields_of_reports_by_their_names_in_rest() -> None:
    [row] = declarations.EVENTS
    assert declarations.unnamed_fields(row) == []
    longer = row._replace(fields=(*row.fields, "created_ns", "answers", "trail: int"))
    assert declarations.unnamed_fields(longer) == ["created_ns", "answers", "trail"]


@pytest.mark.parametrize(
    ("kind", "names", "own", "unsaid"),
    [
        (order_fields.NewOrder, declarations.names(ROWS["NewOrder"]), "user_id", ""),
        (
            order_models.Change,
            declarations.names(ROWS["Replace"]),
            "",
            "symbol order_id client_order_id",
        ),
        (
            order_fields.OrderView,
            declarations.RECORDS["ORDER"],
            "user_id reason post_only triggered self_trade_prevention",
            "",
        ),
        (
            market_models.TradeView,
            declarations.RECORDS["TRADE"],
            "order_id side liquidity",
            "sequence",
        ),
    ],
)
def test_rest_has_each_field_that_has_a_name_there(
    kind: type[msgspec.Struct], names: list[str], own: str, unsaid: str
) -> None:
    declared = (FIELD[name.partition(": ")[0]] for name in names if name.partition(":")[0] in FIELD)
    wanted = {field.rest for field in declared if field.rest}
    assert set(kind.__struct_fields__) - set(own.split()) == wanted - set(unsaid.split())


def test_each_command_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert declarations.missing_rows() == []
    monkeypatch.setattr(declarations, "JOURNALLED", ())
    monkeypatch.setattr(declarations, "FROM_CLIENT", FROM_CLIENT[1:])
    assert declarations.missing_rows() == ["NEW", "CONFIGURE", "NAME"]


def test_no_tag_is_a_commands_and_a_querys() -> None:
    assert not COMMAND_TAGS & QUERY_TAGS
    assert max(COMMAND_TAGS) < min(QUERY_TAGS)


@pytest.mark.parametrize("tag", range(256))
def test_few_frames_are_routed_as_many_are(tag: int) -> None:
    sorter = SymbolSorter({1: 0}, 1, MAX_BODY)
    body = bytes([0x93, tag, 1, 7])
    data = bytearray(HEADER.pack(len(body), 0) + body)
    link, _ = sorter.sort_few(memoryview(data), 3)
    _, _, _, pieces = sorter.sort(bytes(data), 0, 3)
    assert [found for found, _, _ in pieces] == ([] if link < 0 else [link])
    assert link == (0 if tag in COMMAND_TAGS else 1 if tag in QUERY_TAGS else -1)


@pytest.mark.parametrize("reason", [0, 104, 127, 128, 200, 255, 256, 0x1234, reasons.MAX_REASON])
@pytest.mark.parametrize("answers", [0, 1])
def test_a_report_carries_any_reason(reason: int, answers: int) -> None:
    reports = np.zeros(1, REPORT)
    for place, name in enumerate(REPORT.names or ()):
        reports[name] = place + 1
    reports["exec_type"], reports["reason"], reports["answers"] = ExecType.NEW, reason, answers
    encoder = ReportEncoder()
    encoder.open_stream(3, int(reports["account"][0]))
    data = bytes(encoder.encode(reports))
    ((_, body),) = FrameSplitter(MAX_BODY).feed(data)
    wanted = {name: int(reports[name][0]) for name in Report.__struct_fields__}
    assert msgspec.structs.asdict(server_decoder.decode(body)) == wanted
    assert encoder._encode_plain(reports)[8:] == msgspec.msgpack.encode(Report(**wanted))
    sorter = StreamSorter()
    assert sorter.sort(data)[1] == [(3, data, answers)]
    assert sorter.sort_few(data) == (3, answers)


def test_each_reject_has_a_rule_a_field_and_an_http_status() -> None:
    for row in ((200, "", "must be", 400), (200, "price", "must be", 0), (99, "price", "", 400)):
        assert reasons.problem_of(*row), row
    assert "must be 0 to 65535" in reasons.problem_of(70_000, "price", "must be", 400)
    assert not reasons.problem_of(200, "price", "must be", 400)
    for reason in RULES:
        code = errors._CODE_OF_REASON[reason]
        assert errors.STATUS_OF_CODE[code] == reason.http_status


def test_each_code_has_a_word_for_websocket(monkeypatch: pytest.MonkeyPatch) -> None:
    assert order_views.missing_words() == []
    monkeypatch.delitem(order_views._EVENTS, int(ExecType.TRADE))
    monkeypatch.delitem(order_views._LIQUIDITY, 1)
    assert order_views.missing_words() == ["TRADE", "MAKER"]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (order_models.Side, Side),
        (order_models.OrderType, OrderType),
        (order_models.TimeInForce, TimeInForce),
    ],
)
def test_rest_has_each_word_of_an_order(words: object, kind: type[IntEnum]) -> None:
    assert get_args(words) == tuple(kind.__members__)


def test_a_wrong_field_causes_the_reject_of_its_row() -> None:
    for name in ("side", "order_type", "time_in_force", "post_only", "price", "quantity"):
        reason = FIELD[name].reason
        assert reason is not None
        assert RULES[reason].field == name
        assert errors.broken_rule(name, "must be").code == reason.name


def test_one_report_answers_each_command(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [WIDE, BookLimits(9, 1, 200, 50)], 1000), account=4)

    def answers(reports: list) -> list[int]:
        return [report.answers for report in reports]

    assert answers(desk.new(SELL, 5, 100)) == [1]
    assert answers(desk.new(BUY, 9, 100, time_in_force=TimeInForce.IOC)) == [1, 0, 0, 0]
    assert answers(desk.new(BUY, 9, 100, time_in_force=TimeInForce.FOK)) == [1, 0]
    assert answers(desk.market(BUY, 3)) == [1, 0]
    assert answers(desk.new(BUY, 5, 0)) == [1]
    assert answers(desk.new(BUY, 8, 90)) == [1]
    order = int(desk.book.resting()["order_id"][0])
    assert answers(desk.reduce(order, 1)) == [1]
    assert answers(desk.send(CommandType.REPLACE, order_id=order, price=91, quantity=6)) == [1]
    assert answers(desk.reduce(order, 100)) == [1]
    desk.new(BUY, 8, 90)
    desk.new(BUY, 8, 91)
    assert answers(desk.mass_cancel(symbol=0)) == [0, 0, 1]


def test_a_restored_order_keeps_its_type_and_time_in_force(make_book: MakeBook) -> None:
    first = make_book(0, [WIDE], 1000)
    desk = Desk(first, account=4)
    desk.new(BUY, 8, 90, client_order_id=5)
    desk.new(SELL, 8, 95)
    resting = first.resting()
    assert set(resting["order_type"].tolist()) == {int(OrderType.LIMIT)}
    assert set(resting["time_in_force"].tolist()) == {int(TimeInForce.GTC)}
    resting["time_in_force"][1], resting["order_type"][0] = 6, 4
    copy = make_book(0, [WIDE], 1000)
    copy.restore(first.counters(), resting, first.recent())
    assert copy.resting().tolist() == resting.tolist()
