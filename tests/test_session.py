"""The sans-IO side of the client library: numbers, sorting of answers, bounds, decimals, faults."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.client.commands import Order, Request
from frontend.client.errors import (
    ClientError,
    ClosedError,
    ConnectError,
    ConnectionLostError,
    InvalidOrderError,
    LoginRefusedError,
    MissedReportsError,
    OrderRejectedError,
    ProtocolError,
    UnknownOutcomeError,
)
from frontend.client.session import COUNTER_BITS, MAX_COUNTER, Session, outcome, outcome_error
from ipc.vocabulary import ExecType, Liquidity, OrdStatus, Reason, Side
from ipc.wire.frames import HEADER, frame
from ipc.wire.messages import (
    MAX_BODY,
    BookSnapshot,
    Closing,
    InstrumentInfo,
    Level,
    Login,
    NewOrder,
    Pong,
    Reject,
    Report,
    Welcome,
    client_decoder,
)

INSTRUMENTS = [
    InstrumentInfo(1, "AAPL", "0.01", "1", 1, 1 << 40),
    InstrumentInfo(2, "BTCUSD", "0.5", "0.00000001", 1, 1 << 40),
]
WELCOME = Welcome(7, "alice", "0.1.0", INSTRUMENTS)


def report(request_id: int, exec_type: ExecType = ExecType.NEW, symbol: int = 1) -> Report:
    """Return a report on an order of 100 at 187.50 of which 30 traded, 20 now."""
    head = (int(exec_type), int(OrdStatus.PARTIALLY_FILLED), 1, symbol, 1, 2, 1, 0)
    ids = (int(Liquidity.TAKER), 0, int(exec_type != ExecType.TRADE), request_id, 11, 5)
    return Report(*head, *ids, 18750, 100, 30, 70, 18749, 20, 9, 1_700_000_000_000_000_000, 3, 0)


def logged_in(welcome: Welcome = WELCOME, max_reports: int = 100, answers: bool = False) -> Session:
    """Return a session that has had its welcome."""
    session = Session("alice", max_reports, answers)
    session.begin()
    session.feed(frame(welcome))
    return session


def buy(session: Session) -> Request:
    """Return a request for 100 AAPL at 187.50."""
    return session.commands.new_order(Order("AAPL", "buy", 100, "187.50"))


def test_begins_with_the_login() -> None:
    first = Session("alice").begin()
    length, stream = HEADER.unpack_from(first)
    assert (length, stream) == (len(first) - HEADER.size, 0)
    assert client_decoder.decode(first[HEADER.size :]) == Login("alice")


@pytest.mark.parametrize("user_id", ["", "x" * 65])
def test_a_user_id_that_no_engine_takes(user_id: str) -> None:
    with pytest.raises(ConnectError, match="user_id"):
        Session(user_id)


def test_welcome_tells_the_instruments() -> None:
    session = Session("alice")
    session.begin()
    data = frame(WELCOME)
    session.feed(data[:9])
    assert not session.welcomed
    session.feed(data[9:])
    assert session.welcomed
    assert [listing.symbol for listing in session.commands.listings] == ["AAPL", "BTCUSD"]
    assert session.version == "0.1.0"


def test_a_refused_login_says_why() -> None:
    session = Session("alice")
    session.begin()
    with pytest.raises(LoginRefusedError) as caught:
        session.feed(frame(Closing("TOO_MANY_SESSIONS", "try again later")))
    assert (caught.value.code, caught.value.text) == ("TOO_MANY_SESSIONS", "try again later")


def test_anything_but_a_welcome_is_a_fault() -> None:
    session = Session("alice")
    session.begin()
    with pytest.raises(ProtocolError, match="a Pong where a Welcome was to come"):
        session.feed(frame(Pong(1)))


def test_request_ids_carry_the_session_below_two_to_the_53() -> None:
    last = logged_in(Welcome((1 << 28) - 1, "alice", "", INSTRUMENTS))
    first = logged_in(Welcome(1, "alice", "", INSTRUMENTS))
    assert [first.next_request_id() for _ in range(3)] == [(1 << 25) + n for n in (1, 2, 3)]
    assert last.next_request_id() >> COUNTER_BITS == (1 << 28) - 1
    assert last.next_request_id() < 1 << 53


def test_request_ids_begin_again_and_leave_out_what_is_unanswered() -> None:
    session = logged_in()
    request = buy(session)
    assert request.message.request_id == (7 << COUNTER_BITS) + 1
    session.send([request])
    session._counter = MAX_COUNTER - 1
    numbers = [session.next_request_id() - (7 << COUNTER_BITS) for _ in range(3)]
    assert numbers == [MAX_COUNTER, 2, 3]


def test_the_first_message_with_its_number_answers_a_request_the_rest_is_reports() -> None:
    session = logged_in()
    request = buy(session)
    data = session.send([request])
    assert client_decoder.decode(data[HEADER.size :]) == NewOrder(
        1, request.message.request_id, 0, 1, 2, 1, 18750, 100
    )
    number = request.message.request_id
    stranger = report(number + 1)
    answers = session.feed(
        frame(stranger) + frame(report(number)) + frame(report(number, ExecType.TRADE))
    )
    assert [(answer.request, answer.message) for answer in answers] == [(request, report(number))]
    reports = [session.pop_execution(), session.pop_execution(), session.pop_execution()]
    assert [r and r.raw for r in reports] == [stranger, report(number, ExecType.TRADE), None]


def test_answers_stand_among_the_reports_where_that_is_asked() -> None:
    session = logged_in(answers=True)
    request = buy(session)
    session.send([request])
    (answer,) = session.feed(frame(report(request.message.request_id)))
    assert session.pop_messages() == [answer.message]


def test_a_request_given_up_is_answered_into_the_queue() -> None:
    session = logged_in()
    request = buy(session)
    session.send([request])
    session.give_up(request)
    assert session.feed(frame(report(request.message.request_id))) == []
    assert session.pop_messages() == [report(request.message.request_id)]


def test_only_reports_are_executions() -> None:
    session = logged_in()
    session.feed(frame(Pong(3)) + frame(report(0)) + frame(Pong(4)))
    execution = session.pop_execution()
    assert execution is not None
    assert execution.raw == report(0)
    assert session.pop_execution() is None
    assert not session.has_messages


def test_an_execution_in_decimals() -> None:
    session = logged_in()
    session.feed(frame(report(3, ExecType.TRADE)) + frame(report(3, ExecType.TRADE, symbol=2)))
    first, second = session.pop_execution(), session.pop_execution()
    assert first is not None
    assert second is not None
    assert (first.symbol, first.side, first.exec_type) == ("AAPL", Side.BUY, ExecType.TRADE)
    assert (first.price, first.last_price) == (Decimal("187.50"), Decimal("187.49"))
    assert (first.quantity, first.cum_qty, first.leaves_qty, first.last_qty) == (100, 30, 70, 20)
    assert (first.order_id, first.client_order_id, first.trade_id) == (11, 5, 9)
    assert first.liquidity == Liquidity.TAKER
    assert (second.symbol, second.last_price) == ("BTCUSD", Decimal("9374.5"))
    assert second.last_qty == Decimal("0.00000020")
    assert str(first) == "TRADE 9 20 at 187.49 as TAKER: AAPL order 11 BUY 70 open"


def test_a_report_on_no_instrument_is_a_fault() -> None:
    session = logged_in()
    session.feed(frame(report(0, symbol=3)))
    with pytest.raises(ProtocolError, match="symbol: 3"):
        session.pop_execution()


def test_the_queue_keeps_the_newest_and_tells_once_what_is_missing() -> None:
    session = logged_in(max_reports=3)
    session.feed(b"".join(frame(report(number)) for number in range(1, 6)))
    assert session.missed_reports == 2
    with pytest.raises(MissedReportsError, match="2 reports") as caught:
        session.pop_execution()
    assert caught.value.count == 2
    assert session.pop_messages() == [report(3), report(4), report(5)]
    session.feed(b"".join(frame(report(number)) for number in range(6, 10)))
    assert session.missed_reports == 3
    with pytest.raises(MissedReportsError, match="1 reports"):
        session.pop_messages()


def test_reports_outlive_a_connection_but_not_other_instruments() -> None:
    session = logged_in()
    session.feed(frame(report(1)))
    session.begin()
    session.feed(frame(WELCOME))
    assert session.missed_reports == 0
    session.begin()
    session.feed(frame(Welcome(8, "alice", "", INSTRUMENTS[::-1])))
    assert session.missed_reports == 1
    with pytest.raises(MissedReportsError):
        session.pop_execution()
    assert session.pop_execution() is None


def test_half_a_frame_of_an_ended_connection_is_forgotten() -> None:
    session = logged_in()
    session.feed(frame(report(1))[:20])
    session.begin()
    session.feed(frame(WELCOME) + frame(report(2)))
    assert session.pop_messages() == [report(2)]


def test_a_reject_is_the_outcome_of_its_request_only() -> None:
    session = logged_in()
    first, second = buy(session), buy(session)
    session.send([first, second])
    text = "must not repeat"
    reject = Reject(
        1, 1, second.message.request_id, 11, 5, 30, "DUPLICATE", "client_order_id", text, 0, 0, 0
    )
    answers = session.feed(frame(reject) + frame(report(first.message.request_id)))
    results = {answer.request.message.request_id: outcome(*answer) for answer in answers}
    error = results[second.message.request_id]
    assert isinstance(error, OrderRejectedError)
    assert (error.code, error.field) == (Reason.DUPLICATE_CLIENT_ORDER_ID, "client_order_id")
    assert (error.text, error.order_id) == (text, 11)
    assert not isinstance(results[first.message.request_id], ClientError)


def test_an_answer_of_another_kind_is_a_fault() -> None:
    session = logged_in()
    request = session.commands.book("AAPL", 5)
    session.send([request])
    (answer,) = session.feed(frame(Pong(request.message.request_id)))
    assert isinstance(outcome(*answer), ProtocolError)


def test_a_book_in_decimals() -> None:
    session = logged_in()
    request = session.commands.book("BTCUSD", 5)
    session.send([request])
    number = request.message.request_id
    snapshot = BookSnapshot(number, 2, 44, [Level(3, 200_000_000, 2)], [])
    (answer,) = session.feed(frame(snapshot))
    book = outcome(*answer)
    assert (book.symbol, book.sequence, book.asks) == ("BTCUSD", 44, [])
    assert book.bids == [(Decimal("1.5"), Decimal(2), 2)]


def test_what_an_ended_connection_means() -> None:
    session = logged_in()
    command = session.commands.new_order(Order("AAPL", "buy", 100, "187.50", client_order_id=77))
    query = session.commands.book("AAPL", 5)
    session.send([command, query])
    session.end("connection lost: cut")
    waiting = session.unanswered()
    assert waiting == [command, query]
    cause = session.loss()
    assert type(cause) is ConnectionLostError
    unknown = outcome_error(command, cause)
    assert isinstance(unknown, UnknownOutcomeError)
    assert unknown.client_order_id == 77
    assert unknown.__cause__ is cause
    assert outcome_error(query, cause) is cause
    assert session.unanswered() == []


def test_a_closing_says_why_the_connection_ended() -> None:
    session = logged_in()
    session.feed(frame(report(1)) + frame(Closing("SHUTTING_DOWN", "the engine is stopping")))
    session.end("cut")
    loss = session.loss()
    assert isinstance(loss, ClosedError)
    assert (loss.code, loss.text) == ("SHUTTING_DOWN", "the engine is stopping")
    assert session.pop_messages() == [report(1)]


@pytest.mark.parametrize(
    ("order", "field", "text"),
    [
        (Order("NONE", "buy", 1, 1), "symbol", "AAPL, BTCUSD"),
        (Order("AAPL", "bid", 1, 1), "side", "'buy', 'sell'"),
        (Order("AAPL", 1.0, 1, 1), "side", "'buy', 'sell'"),  # type: ignore[arg-type]
        (Order("AAPL", "buy", 0, 1), "quantity", "1 to"),
        (Order("AAPL", "buy", -1, 1), "quantity", "1 to"),
        (Order("AAPL", "buy", "0.5", 1), "quantity", "multiple of 1"),
        (Order("AAPL", "buy", 1 << 44, 1), "quantity", "1 to"),
        (Order("AAPL", "buy", 1, "187.505"), "price", "multiple of 0.01"),
        (Order("AAPL", "buy", 1, 187.5), "price", "decimal text"),  # type: ignore[arg-type]
        (Order("AAPL", "buy", 1, "cheap"), "price", "decimal number"),
        (Order("AAPL", "buy", 1, 0), "price", "1 to"),
        (Order("AAPL", "buy", 1, "-0.01"), "price", "1 to"),
        (Order("AAPL", "buy", 1, 1 << 53), "price", "1 to"),
        (Order("AAPL", "buy", 1, order_type="limit"), "price", "LIMIT"),
        (Order("AAPL", "buy", 1, 1, order_type="pegged"), "order_type", "'limit'"),
        (Order("AAPL", "buy", 1, 1, time_in_force="gtx"), "time_in_force", "'gtc', 'ioc', 'fok'"),
        (Order("AAPL", "buy", 1, 1, client_order_id=-1), "client_order_id", "0 to"),
        (Order("AAPL", "buy", 1, 1, client_order_id=1 << 63), "client_order_id", "0 to"),
    ],
)
def test_an_order_that_cannot_be_written_down(order: Order, field: str, text: str) -> None:
    with pytest.raises(InvalidOrderError, match=text) as caught:
        logged_in().commands.new_order(order)
    assert caught.value.field == field


def test_an_order_needs_an_id_to_be_found() -> None:
    commands = logged_in().commands
    with pytest.raises(InvalidOrderError, match="client_order_id together with symbol"):
        commands.cancel(0, None, 5)
    with pytest.raises(InvalidOrderError, match="client_order_id together with symbol"):
        commands.reduce(0, "AAPL", 0, 1)
    assert commands.cancel(0, "AAPL", 5).message.client_order_id == 5


def test_a_forgotten_price_makes_no_market_order() -> None:
    commands = logged_in().commands
    with pytest.raises(InvalidOrderError, match=r"price: must be given .* order_type='market'"):
        commands.new_order(Order("AAPL", Side.SELL, 1))
    market = commands.new_order(Order("AAPL", Side.SELL, 1, order_type="market")).message
    limit = commands.new_order(Order("AAPL", "SELL", 1, Decimal("0.01"))).message
    assert (market.order_type, market.price) == (1, 0)
    assert (limit.order_type, limit.price) == (2, 1)


@given(st.data())
def test_the_cuts_between_reads_do_not_matter(data: st.DataObject) -> None:
    stream = b"".join(frame(report(number)) for number in range(1, 5))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    session = logged_in()
    for first, last in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        session.feed(stream[first:last])
    assert session.pop_messages() == [report(number) for number in range(1, 5)]


@given(st.lists(st.binary(max_size=64), max_size=4), st.booleans())
def test_random_bytes_are_a_fault_or_nothing(bodies: list[bytes], framed: bool) -> None:
    session = logged_in()
    try:
        for body in bodies:
            session.feed(HEADER.pack(len(body), 0) + body if framed else body)
    except ProtocolError:
        return
    assert not session.pop_messages() or framed


def test_text_that_is_no_text_is_a_fault() -> None:
    body = b"\x93\x20\xa2\xff\xff\xa1x"
    with pytest.raises(ProtocolError):
        logged_in().feed(HEADER.pack(len(body), 0) + body)


def test_a_frame_too_long_is_a_fault() -> None:
    with pytest.raises(ProtocolError, match="must be at most"):
        logged_in().feed(HEADER.pack(MAX_BODY + 1, 0))
