"""What crosses a boundary: a row a field, and which commands, answers and records bear it.

All else follows: numpy's layouts (``ipc.records``), the messages (``ipc.wire.messages``), the code
between them (``ipc.wire.field_codec``), what a journal keeps, the tables of HTTP, and the manual's
page. After a change: ``python -m ipc.schema.generate``.
"""

from collections.abc import Container
from enum import IntEnum
from typing import NamedTuple

from ipc.reasons import Reason
from ipc.vocabulary import (
    Administration,
    CommandType,
    ExecType,
    Flag,
    Liquidity,
    OrderType,
    OrdStatus,
    SelfTradePrevention,
    Side,
    TimeInForce,
)


class Field(NamedTuple):
    """One field. What a number means stands in ``text``, for the manual."""

    name: str
    store: str
    """How a record holds it, in numpy's words."""
    text: str
    bound: str = "Amount"
    """Which of the bounded integers of ``ipc.wire.messages`` it is in what a client sends."""
    reason: Reason | None = None
    """The reject that it causes where it is no such integer, or left out; else INVALID_MESSAGE."""
    words: type[IntEnum] | None = None
    """The codes that it has."""
    rest: str = ""
    """Its name in REST, where it stands there."""
    fix: int = 0
    """FIX's tag of it, where FIX has it."""


_BOOL = "bool"

FIELDS: tuple[Field, ...] = (
    Field("command_type", "u1", "which command, of the cause", "Code"),
    Field("symbol", "<u2", "an instrument's number; 0: none given", "SymbolNumber",
          Reason.UNKNOWN_SYMBOL, None, "symbol", 55),
    Field("request_id", "<u8", "the client's number of the request; 0: none", "Id"),
    Field("account", "<u8", "a digest of the user_id; whom a report is for"),
    Field("order_id", "<u8", "the engine's number of the order", "Id",
          Reason.INVALID_ORDER_ID, None, "order_id", 37),
    Field("client_order_id", "<u8", "the client's number or text for the order; 0: none",
          "ClientOrderId", None, None, "client_order_id", 11),
    Field("side", "u1", "of the order", "Code", Reason.INVALID_SIDE, Side, "side", 54),
    Field("order_type", "u1", "of the order", "Code",
          Reason.INVALID_ORDER_TYPE, OrderType, "order_type", 40),
    Field("time_in_force", "u1", "how long the order may rest", "Code",
          Reason.INVALID_TIME_IN_FORCE, TimeInForce, "time_in_force", 59),
    Field("price", "<u8", "ticks: the order's limit; 0: a market order", "Amount",
          Reason.INVALID_PRICE, None, "price", 44),
    Field("quantity", "<u8", "lots: the order's total, filled ones included", "Amount",
          Reason.INVALID_QUANTITY, None, "quantity", 38),
    Field("post_only", _BOOL, "reject instead of trading on entry or on replace", _BOOL,
          Reason.INVALID_POST_ONLY, None, "post_only", 18),
    Field("reinsert", _BOOL, "quantity is the open one, and the order goes to the back", _BOOL),
    Field("flags", "u1", "bits: 1 post-only, 64 triggered, 32 rare, 2 to 8 self_trade_prevention",
          "Code"),
    Field("self_trade_prevention", "u1", "of a new order: what it does where it meets its own",
          "Code", Reason.INVALID_SELF_TRADE_PREVENTION, SelfTradePrevention,
          "self_trade_prevention", 2964),
    Field("stop_price", "<u8", "ticks; 0: none", "Amount",
          Reason.INVALID_STOP_PRICE, None, "stop_price", 99),
    Field("display_quantity", "<u8", "lots that are shown of what rests; 0: all", "Amount",
          Reason.INVALID_DISPLAY_QUANTITY, None, "display_quantity", 1138),
    Field("shown_quantity", "<u8", "lots of an iceberg that are shown; 0: none, or it waits"),
    Field("expire_time_ns", "<u8", "of a GTD order: since the epoch; 0: never", "Amount",
          Reason.INVALID_EXPIRE_TIME, None, "expire_time_ns", 126),
    Field("take_price", "<u8", "ticks: where the exit of a bracket takes the profit; 0: none",
          "Amount", Reason.INVALID_LIST, None, "take_price"),
    Field("stop_limit_price", "<u8", "ticks: the limit of a list's stop order; 0: none", "Amount",
          Reason.INVALID_LIST, None, "stop_limit_price"),
    Field("link", "<u2", "bits: whom an order of a list is tied to; 0: nobody"),
    Field("minimum_quantity", "<u8", "lots of an IOC order: trade so many at once, or none",
          "Amount", Reason.INVALID_MINIMUM_QUANTITY, None, "minimum_quantity", 110),
    # What reports say.
    Field("exec_type", "u1", "what is reported", "Code", None, ExecType, "", 150),
    Field("ord_status", "u1", "the order's state", "Code", None, OrdStatus, "status", 39),
    Field("liquidity", "u1", "of a trade: who was there first", "Code",
          None, Liquidity, "liquidity", 851),
    Field("reason", "<u2", "why an order was cancelled; 0: it was not", "Code", None, Reason),
    Field("answers", "<u4", "1: it answers the command; 0: it tells of what followed", "Code"),
    Field("sequence", "<u8", "the command's number in its shard", rest="sequence"),
    Field("cum_qty", "<u8", "lots filled", rest="filled_quantity", fix=14),
    Field("leaves_qty", "<u8", "lots open", rest="remaining_quantity", fix=151),
    Field("last_price", "<u8", "ticks: the trade's; where there is none, an order's stop price",
          rest="last_price", fix=31),
    Field("last_qty", "<u8", "lots: the trade's; where there is none, an order's display_quantity",
          rest="last_quantity", fix=32),
    Field("trade_id", "<u8", "the engine's number of the trade", rest="trade_id", fix=17),
    Field("timestamp_ns", "<u8", "since the epoch", rest="timestamp", fix=60),
    Field("account_sequence", "<u8", "shard and number of what it tells the account"),
    Field("created_ns", "<u8", "since the epoch", rest="timestamp"),
    Field("updated_ns", "<u8", "since the epoch", rest="updated"),
    Field("end_number", "<u4", "of an ended order: how many of its table's had ended before it"),
    # What trades say.
    Field("buy_order_id", "<u8", "the bid's", rest="buy_order_id"),
    Field("sell_order_id", "<u8", "the ask's", rest="sell_order_id"),
    Field("taker_side", "u1", "who came second", "Code", None, Side, "taker_side"),
    Field("order_count", "<u8", "orders of a price level", rest="order_count"),
)  # fmt: skip

FIELD: dict[str, Field] = {field.name: field for field in FIELDS}
assert len(FIELD) == len(FIELDS)


# Records -----------------------------------------------------------------------------------------

RECORDS: dict[str, tuple[str, ...]] = {
    "COMMAND": (
        "command_type", "side", "order_type", "time_in_force", "flags", "self_trade_prevention",
        "symbol", "request_id", "account", "order_id", "client_order_id", "price", "quantity",
        "timestamp_ns",
        # What only rare orders have: a journal keeps these only where one of a batch has them.
        "stop_price", "display_quantity", "expire_time_ns", "minimum_quantity",
    ),
    "REPORT": (
        "exec_type", "ord_status", "command_type", "side", "order_type", "time_in_force", "flags",
        "liquidity", "symbol", "reason", "answers", "sequence", "request_id", "account",
        "order_id", "client_order_id", "price", "quantity", "cum_qty", "leaves_qty", "last_price",
        "last_qty", "trade_id", "timestamp_ns", "account_sequence",
    ),
    "TRADE": (
        "trade_id", "sequence", "timestamp_ns", "price", "quantity", "buy_order_id",
        "sell_order_id", "symbol", "taker_side", "reserved: 5u1",
    ),
    "LEVEL": ("price", "quantity", "order_count"),
    "RESTING": (
        "order_id", "account", "client_order_id", "price", "leaves_qty", "cum_qty",
        "symbol", "side", "flags", "order_type", "time_in_force", "link",
        # What only rare orders have.
        "stop_price", "display_quantity", "shown_quantity", "expire_time_ns",
    ),
    "RECENT": ("order_id", "account", "client_order_id", "symbol: <u8"),
    "LAST_PRICE": ("symbol: <u8", "price"),
    "ORDER": (
        "order_id", "account", "client_order_id", "price", "quantity", "cum_qty", "leaves_qty",
        "created_ns", "updated_ns", "symbol", "reason", "side", "order_type", "time_in_force",
        "flags", "ord_status", "reserved: 3u1", "end_number", "stop_price", "display_quantity",
    ),
}  # fmt: skip
"""The fields of each record, in order; ``name: format`` where it holds one otherwise than its row
says."""


def layout(name: str) -> list[tuple[str, str] | tuple[str, str, tuple[int]]]:
    """Return the fields of a record as ``numpy.dtype`` takes them."""
    found: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for entry in RECORDS[name]:
        field, _, form = entry.partition(": ")
        form = form or FIELD[field].store
        if form[0].isdigit():
            found.append((field, form[1:], (int(form[0]),)))
        else:
            found.append((field, form))
    return found


# Messages ----------------------------------------------------------------------------------------

COMMANDS, SESSION, ADMINISTRATION = range(1, 32), range(32, 64), range(64, 96)
QUERIES = range(96, 128)
"""Tags by what a message is for; each is one byte of MessagePack."""
KEPT = frozenset({10, 11, *range(20, 32)})
"""Tags of the session that are older than the ranges; no command has one of them."""


class Row(NamedTuple):
    """One message; a part of one has no tag.

    A field is a name of ``FIELDS``, or ``name: type`` where it is none, or of another type here;
    ``= default`` where it may be left out, at the end.
    """

    name: str
    tag: int
    doc: str
    fields: tuple[str, ...]


FROM_CLIENT: tuple[Row, ...] = (
    Row("NewOrder", 1,
        """Enter an order. ``client_order_id`` 0: none, and so no protection against repetition.

        It is a number, or a text of 1 to 64 visible ASCII characters, not all of them digits; so
        it is in all commands, and answers and reports have what was given.""",
        ("symbol", "request_id", "client_order_id", "side", "order_type",
         "time_in_force", "price", "quantity", "post_only = False", "stop_price = 0",
         "self_trade_prevention = 0", "display_quantity = 0",
         "expire_time_ns = 0", "minimum_quantity = 0")),
    Row("Cancel", 2,
        "Cancel by ``order_id`` (symbol may be 0), or where that is 0 by ``client_order_id``.",
        ("symbol", "request_id", "order_id", "client_order_id = 0")),
    Row("Replace", 3,
        """Change price and total quantity (FIX OrderQty: filled lots count) of a resting order.

        A smaller quantity at the same price keeps its place; anything else goes to the back of
        its queue and may trade. With ``reinsert`` the quantity is the new open quantity, and
        the order goes to the back whatever the change: a cancel and a new order under the same
        ids. ``None`` (not 0) for price or quantity, not for both: it stays what it is when the
        command is matched. ``stop_price`` is for an order that waits, ``display_quantity`` for one
        that has one; 0: it stays what it is.""",
        ("symbol", "request_id", "order_id", "client_order_id", "price: Amount | None",
         "quantity: Amount | None", "reinsert = False", "stop_price = 0",
         "display_quantity = 0")),
    Row("Reduce", 4,
        "Take ``quantity`` off what is open, keeping the place; all of it or more cancels.",
        ("symbol", "request_id", "order_id", "client_order_id", "quantity")),
    Row("MassCancel", 5,
        "Cancel every order of the account in one symbol, or with symbol 0 in all.",
        ("symbol", "request_id")),
    Row("NewOco", 6,
        """Enter two orders that sell, or buy, the same: a limit order at ``price``, and one that
        waits for ``stop_price`` (with a limit: ``stop_limit_price``). Once one has traded, it is as
        much less of the other; once it triggers or ends, the other goes. The second has the
        ``client_order_id`` behind the first one's, and the ``order_id`` too.""",
        ("symbol", "request_id", "side", "client_order_id: ListOrderId", "time_in_force", "price",
         "quantity", "stop_price", "stop_limit_price = 0", "self_trade_prevention = 0",
         "expire_time_ns = 0")),
    Row("NewBracket", 7,
        """Enter an order, and with it one or two that wait on the other side until it is filled: to
        take the profit at ``take_price``, and to stop the loss at ``stop_price``; then those two
        are as ``NewOco`` makes them. Their ids follow that of the first.""",
        ("symbol", "request_id", "side", "client_order_id: ListOrderId", "order_type",
         "time_in_force", "price", "quantity", "take_price = 0", "stop_price = 0",
         "stop_limit_price = 0", "post_only = False", "self_trade_prevention = 0",
         "expire_time_ns = 0")),
    Row("OrderQuery", 96,
        "Ask for the state of one order of the account, by ``order_id``.",
        ("symbol", "request_id", "order_id")),
    Row("TradesQuery", 97,
        "Ask for the last ``limit`` trades of a symbol, or with symbol 0 of all.",
        ("symbol", "request_id", "limit: Amount")),
    Row("BookQuery", 98,
        "Ask for the best ``depth`` levels of each side.",
        ("symbol", "request_id", "depth: Amount")),
    Row("Login", 10,
        """The first message of a connection: who trades.

        ``resume``: the last ``account_sequence`` that was seen of each shard; what came after
        them is sent first. ``cancel_on_disconnect``: when the last session of the account that
        asked for it ends, in whatever way, all orders of the account are cancelled.
        ``api_key``: proves who it is, where the engine has keys. ``peer_timeout_s``: within
        which a client that has vanished from the network is noticed, instead of the time that
        is configured (0: that).""",
        ("user_id: UserId", "resume: Positions = []",
         "cancel_on_disconnect: bool = False",
         'api_key: Annotated[str, Meta(max_length=256)] = ""',
         "peer_timeout_s: PeerTimeout = 0")),
    Row("Ping", 11,
        "Answered with ``Pong`` by the frontend; keeps an idle connection open.",
        ("request_id",)),
)  # fmt: skip
"""What a client sends."""

TO_CLIENT: tuple[Row, ...] = (
    Row("Report", 20,
        """What became of an order of the account; fields as in ``ipc.records.REPORT``.

        ``account_sequence`` numbers what one shard tells one account, here and in the two
        answers below, without a gap; its high bits are the shard (``ipc.records.make_id``).
        Answers that come from elsewhere, such as a frontend, have 0 there.""",
        ("exec_type", "ord_status", "command_type", "symbol", "side", "order_type",
         "time_in_force", "flags", "liquidity", "reason", "answers", "request_id",
         "order_id", "client_order_id: int | str", "price", "quantity", "cum_qty", "leaves_qty",
         "last_price", "last_qty", "trade_id", "timestamp_ns", "sequence", "account_sequence")),
    Row("Reject", 21,
        "The command was not carried out: ``field`` breaks the rule in ``text``.",
        ("command_type", "symbol", "request_id", "order_id", "client_order_id: int | str",
         "code: int", "code_name: str", "field: str", "text: str", "timestamp_ns", "sequence",
         "account_sequence")),
    Row("MassCancelReport", 22,
        "The answer to ``MassCancel``, after the reports of the orders that it cancelled.",
        ("symbol", "request_id", "canceled_orders: int", "timestamp_ns", "sequence",
         "account_sequence")),
    Row("OrderState", 23,
        "The answer to ``OrderQuery``; fields as in ``ipc.records.ORDER``.",
        ("request_id", "order_id", "client_order_id: int | str", "symbol", "side", "order_type",
         "time_in_force", "flags", "ord_status", "reason", "price", "quantity",
         "cum_qty", "leaves_qty", "created_ns", "updated_ns", "stop_price = 0",
         "display_quantity = 0")),
    Row("Trade", 0,
        "One trade; fields as in ``ipc.records.TRADE``.",
        ("trade_id", "symbol", "price", "quantity", "buy_order_id", "sell_order_id",
         "taker_side", "timestamp_ns")),
    Row("TradeList", 24,
        "The answer to ``TradesQuery``, newest first.",
        ("request_id", "trades: list[Trade]")),
    Row("Level", 0,
        "One price level.",
        ("price", "quantity", "order_count")),
    Row("BookSnapshot", 25,
        "The answer to ``BookQuery``, best levels first, as of the shard's command ``sequence``.",
        ("request_id", "symbol", "sequence", "bids: list[Level]", "asks: list[Level]")),
    Row("InstrumentInfo", 0,
        """One instrument: its number, name and shard, and what a tick and a lot are, as decimals.

        A ``retired`` one takes no orders any more: reports of earlier ones are said in its ticks
        and lots.""",
        ("number: int", "symbol: str", "tick_size: str", "lot_size: str",
         "min_price: int", "max_price: int", "shard: int = 0", "retired: bool = False")),
    Row("Welcome", 30,
        """The answer to ``Login``. ``session`` is unique while the engine runs.

        ``account_sequences``: where the account stands, by shard. Reports up to there that
        ``resume`` asked for follow at once, and after them those that come. A shard that cannot
        say where it stands is not in the list.""",
        ("session: int", "user_id: str", "version: str",
         "instruments: list[InstrumentInfo]", "account_sequences: list[int] = []")),
    Row("Pong", 31,
        "The answer to ``Ping``.",
        ("request_id",)),
    Row("Closing", 32,
        "Why the frontend closes the connection, sent last.",
        ("code: str", "text: str")),
    Row("ShardRestarted", 33,
        """A shard serves again whose matcher had died: nothing else of its past is still to come.

        ``account_sequence`` is the last report it has for the account. Of the bytes that the
        session sent, Login included, the first ``sent_bytes`` came before the frontend saw the
        matcher die: a command among them for this shard that is not answered by now was not
        carried out.""",
        ("account_sequence", "sent_bytes: int")),
)  # fmt: skip
"""What a client gets, and what that consists of."""

INNER: tuple[Row, ...] = (
    Row("OpenStream", 40,
        """Frames of ``stream`` are the account's from now on; a frontend sends it first.

        A matcher cancels all orders of an account when ``cancel_on_disconnect`` ends: by a
        further OpenStream without it, or with the link; unless another link still has it.""",
        ("stream: int", "account", "cancel_on_disconnect: bool = False")),
    Row("StreamOpened", 41,
        """A matcher's answer to an OpenStream that opens: the account's last report so far.

        All reports after that one follow on the link.""",
        ("account_sequence",)),
    Row("CloseStream", 42,
        """A frontend sends no more on ``stream``, and wants no more of its reports from a matcher.

        It may open it again; that is answered like the first time.""",
        ("stream: int",)),
    Row("TestRequest", 43,
        "A frontend asks a matcher for a Heartbeat; it belongs to no stream.",
        ()),
    Row("Heartbeat", 44,
        "A matcher's answer to a TestRequest: what came before that is matched.",
        ()),
)  # fmt: skip
"""Between processes of the product."""


JOURNALLED: tuple[Row, ...] = (
    Row("Configure", Administration.CONFIGURE,
        "Another configuration of the shard is in force from here on.",
        ("timestamp_ns",)),
    Row("Name", Administration.NAME,
        "The text of the ``client_order_id`` that the next command has: see ``ipc.client_ids``.",
        ("account", "client_order_id", "timestamp_ns")),
)  # fmt: skip
"""Commands of a shard's own, which only its journal holds: nobody can send one."""


EVENTS: tuple[Row, ...] = (
    Row("OrderEvent", 0,
        "What became of an order of the user.",
        ('channel: str = "orders"', "type: str", "user_id: str", "symbol: str", "order_id",
         "client_order_id: int | str", "side: str", "ord_status: str", "price: Number | None",
         "quantity: Number", "cum_qty: Number", "leaves_qty: Number", "trade_id: int | None",
         "last_price: Number | None", "last_qty: Number | None", "liquidity: str | None",
         "stop_price: Number | None", "prevented_quantity: Number | None", "sequence",
         "timestamp_ns", "display_quantity: Number | UnsetType = UNSET")),
)  # fmt: skip
"""What a WebSocket tells of reports; a field has its name in REST."""


def parsed(entry: str) -> tuple[str, str, str]:
    """Return name, type and default of a field, the last two empty where they are not given."""
    declared, _, default = entry.partition(" = ")
    name, _, kind = declared.partition(": ")
    return name, kind, default


def names(row: Row) -> tuple[str, ...]:
    """Return the names of a message's fields."""
    return tuple(parsed(entry)[0] for entry in row.fields)


ROWS: dict[str, Row] = {row.name: row for row in (*FROM_CLIENT, *TO_CLIENT, *INNER)}


FLAGS: dict[str, Flag] = {"post_only": Flag.POST_ONLY, "reinsert": Flag.REINSERT}
"""Booleans of commands, which are bits of a record's ``flags``."""
KEEPS: dict[str, Flag] = {"price": Flag.KEEP_PRICE, "quantity": Flag.KEEP_QUANTITY}
"""What a record's ``flags`` say where a command has nil for a number."""
RECORD_NAMES = {
    "canceled_orders": "quantity", "code": "reason",
    "take_price": "minimum_quantity", "stop_limit_price": "display_quantity",
}  # fmt: skip
"""Fields of answers that a REPORT holds under another name, and of lists in a COMMAND."""


def tag_problem(row: Row) -> str:
    """Return what is wrong with a message's tag, or nothing."""
    ranges: list[Container[int]] = [SESSION, KEPT, range(1)]
    if row.name in {one.name for one in FROM_CLIENT}:
        ranges = [QUERIES] if row.name.endswith("Query") else [COMMANDS, KEPT]
    elif row.name in {one.name for one in JOURNALLED}:
        ranges = [ADMINISTRATION]
    if any(row.tag in some for some in ranges):
        return ""
    return f"{row.name}: tag {row.tag} is not of its range"


def missing_rows() -> list[str]:
    """Return the codes of commands that no row declares."""
    declared = {row.tag for row in (*FROM_CLIENT, *JOURNALLED)}
    return [code.name for code in (*CommandType, *Administration) if code not in declared]


for _row in (*ROWS.values(), *JOURNALLED):
    if _problem := tag_problem(_row):
        raise ValueError(_problem)
if _missing := missing_rows():
    raise ValueError(f"commands without a row: {', '.join(_missing)}")


def place_problem(row: Row) -> str:
    """Return which field of a command or report the record of it has no place for, or nothing."""
    record = "COMMAND" if row.tag in COMMANDS and row in FROM_CLIENT else "REPORT"
    texts = {"code_name", "field", "text"}
    for name in names(row):
        if name not in FLAGS and name not in texts:
            held = RECORD_NAMES.get(name, name)
            if held not in (entry.partition(": ")[0] for entry in RECORDS[record]):
                return f"{row.name}: {name} has no place in {record}"
    return ""


def unnamed_fields(row: Row) -> list[str]:
    """Return the fields of an event that no report has, or that have no name in REST."""
    reported = {entry.partition(": ")[0] for entry in RECORDS["REPORT"]}
    # The last three are what last_price and last_qty are where they are not a trade's.
    own = {"channel", "type", "user_id", "stop_price", "prevented_quantity", "display_quantity"}
    return [n for n in names(row) if n not in own and not (n in reported and FIELD[n].rest)]


for _row in EVENTS:
    if _unnamed := unnamed_fields(_row):
        raise ValueError(f"{_row.name}: no report has, or REST does not name: {_unnamed}")
for _name in ("NewOrder", "Cancel", "Replace", "Reduce", "MassCancel", "NewOco", "NewBracket",
              "Report", "Reject", "MassCancelReport"):  # fmt: skip
    if _problem := place_problem(ROWS[_name]):
        raise ValueError(_problem)
