"""Every wire message, as the msgspec types that define it: MessagePack arrays led by a tag.

A frame is an 8-byte header, body length (u32, little endian) and stream (u32), then one message.
Clients send 0 as the stream and ignore it in answers; between frontend and matcher it is the
frontend's number of the account. Every command is ``[tag, symbol, request_id, ...]``, so that a
frontend finds the route without decoding. Prices are ticks, quantities lots, symbols the numbers
that ``Welcome`` lists. Trailing fields with a default may be left out; others may not be added.
"""

from typing import Annotated, get_args

from msgspec import Meta, Struct
from msgspec.msgpack import Decoder, Encoder

from ipc.bounds import LIST_PATTERN, MAX_CLIENT_ID, MAX_PEER_TIMEOUT_S, TEXT_PATTERN
from ipc.records import MAX_SHARDS, SEQUENCE_BITS, SHARD_BITS

MAX_COMMAND_BODY = 1024
"""Bytes of one message from a client."""
MAX_LOGIN_BODY = 4096
"""Bytes of a client's first message, which may name a position on every shard."""
MAX_BODY = 1 << 20
"""Bytes of one message to a client, or between processes."""

Id = Annotated[int, Meta(ge=0, le=MAX_CLIENT_ID)]
ClientOrderId = (
    Annotated[int, Meta(ge=0, le=MAX_CLIENT_ID)] | Annotated[str, Meta(pattern=TEXT_PATTERN)]
)
ListOrderId = (
    Annotated[int, Meta(ge=0, le=MAX_CLIENT_ID)] | Annotated[str, Meta(pattern=LIST_PATTERN)]
)
Amount = Annotated[int, Meta(ge=0, le=MAX_CLIENT_ID)]
Code = Annotated[int, Meta(ge=0, le=255)]
AccountSequence = Annotated[int, Meta(ge=0, lt=1 << (SHARD_BITS + SEQUENCE_BITS))]
SymbolNumber = Annotated[int, Meta(ge=0, le=65535)]
Positions = Annotated[list[AccountSequence], Meta(max_length=MAX_SHARDS)]
UserId = Annotated[str, Meta(min_length=1, max_length=64)]
PeerTimeout = Annotated[int, Meta(ge=0, le=MAX_PEER_TIMEOUT_S)]


class Message(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of all messages: an array, no field unknown."""


def tag_of(kind: type[Struct]) -> int:
    """Return the tag that leads a message of this type."""
    tag = kind.__struct_config__.tag
    assert isinstance(tag, int)
    return tag


class Part(Struct, array_like=True, gc=False):
    """Base of what a message has many of: an array."""


# Written by ipc.schema.generate from here


# What a client sends -----------------------------------------------------------------------------


class NewOrder(Message, tag=1):
    """Enter an order. ``client_order_id`` 0: none, and so no protection against repetition.

    It is a number, or a text of 1 to 64 visible ASCII characters, not all of them digits; so
    it is in all commands, and answers and reports have what was given.
    """

    symbol: SymbolNumber
    request_id: Id
    client_order_id: ClientOrderId
    side: Code
    order_type: Code
    time_in_force: Code
    price: Amount
    quantity: Amount
    post_only: bool = False
    stop_price: Amount = 0
    self_trade_prevention: Code = 0
    display_quantity: Amount = 0
    expire_time_ns: Amount = 0
    minimum_quantity: Amount = 0


class Cancel(Message, tag=2):
    """Cancel by ``order_id`` (symbol may be 0), or where that is 0 by ``client_order_id``."""

    symbol: SymbolNumber
    request_id: Id
    order_id: Id
    client_order_id: ClientOrderId = 0


class Replace(Message, tag=3):
    """Change price and total quantity (FIX OrderQty: filled lots count) of a resting order.

    A smaller quantity at the same price keeps its place; anything else goes to the back of
    its queue and may trade. With ``reinsert`` the quantity is the new open quantity, and
    the order goes to the back whatever the change: a cancel and a new order under the same
    ids. ``None`` (not 0) for price or quantity, not for both: it stays what it is when the
    command is matched. ``stop_price`` is for an order that waits, ``display_quantity`` for one
    that has one; 0: it stays what it is.
    """

    symbol: SymbolNumber
    request_id: Id
    order_id: Id
    client_order_id: ClientOrderId
    price: Amount | None
    quantity: Amount | None
    reinsert: bool = False
    stop_price: Amount = 0
    display_quantity: Amount = 0


class Reduce(Message, tag=4):
    """Take ``quantity`` off what is open, keeping the place; all of it or more cancels."""

    symbol: SymbolNumber
    request_id: Id
    order_id: Id
    client_order_id: ClientOrderId
    quantity: Amount


class MassCancel(Message, tag=5):
    """Cancel every order of the account in one symbol, or with symbol 0 in all."""

    symbol: SymbolNumber
    request_id: Id


class NewOco(Message, tag=6):
    """Enter two orders that sell, or buy, the same: a limit order at ``price``, and one that
    waits for ``stop_price`` (with a limit: ``stop_limit_price``). Once one has traded, it is as
    much less of the other; once it triggers or ends, the other goes. The second has the
    ``client_order_id`` behind the first one's, and the ``order_id`` too.
    """

    symbol: SymbolNumber
    request_id: Id
    side: Code
    client_order_id: ListOrderId
    time_in_force: Code
    price: Amount
    quantity: Amount
    stop_price: Amount
    stop_limit_price: Amount = 0
    self_trade_prevention: Code = 0
    expire_time_ns: Amount = 0


class NewBracket(Message, tag=7):
    """Enter an order, and with it one or two that wait on the other side until it is filled: to
    take the profit at ``take_price``, and to stop the loss at ``stop_price``; then those two
    are as ``NewOco`` makes them. Their ids follow that of the first.
    """

    symbol: SymbolNumber
    request_id: Id
    side: Code
    client_order_id: ListOrderId
    order_type: Code
    time_in_force: Code
    price: Amount
    quantity: Amount
    take_price: Amount = 0
    stop_price: Amount = 0
    stop_limit_price: Amount = 0
    post_only: bool = False
    self_trade_prevention: Code = 0
    expire_time_ns: Amount = 0


class OrderQuery(Message, tag=96):
    """Ask for the state of one order of the account, by ``order_id``."""

    symbol: SymbolNumber
    request_id: Id
    order_id: Id


class TradesQuery(Message, tag=97):
    """Ask for the last ``limit`` trades of a symbol, or with symbol 0 of all."""

    symbol: SymbolNumber
    request_id: Id
    limit: Amount


class BookQuery(Message, tag=98):
    """Ask for the best ``depth`` levels of each side."""

    symbol: SymbolNumber
    request_id: Id
    depth: Amount


class Login(Message, tag=10):
    """The first message of a connection: who trades.

    ``resume``: the last ``account_sequence`` that was seen of each shard; what came after
    them is sent first. ``cancel_on_disconnect``: when the last session of the account that
    asked for it ends, in whatever way, all orders of the account are cancelled.
    ``api_key``: proves who it is, where the engine has keys. ``peer_timeout_s``: within
    which a client that has vanished from the network is noticed, instead of the time that
    is configured (0: that).
    """

    user_id: UserId
    resume: Positions = []
    cancel_on_disconnect: bool = False
    api_key: Annotated[str, Meta(max_length=256)] = ""
    peer_timeout_s: PeerTimeout = 0


class Ping(Message, tag=11):
    """Answered with ``Pong`` by the frontend; keeps an idle connection open."""

    request_id: Id


# What a client gets ------------------------------------------------------------------------------


class Report(Message, tag=20):
    """What became of an order of the account; fields as in ``ipc.records.REPORT``.

    ``account_sequence`` numbers what one shard tells one account, here and in the two
    answers below, without a gap; its high bits are the shard (``ipc.records.make_id``).
    Answers that come from elsewhere, such as a frontend, have 0 there.
    """

    exec_type: int
    ord_status: int
    command_type: int
    symbol: int
    side: int
    order_type: int
    time_in_force: int
    flags: int
    liquidity: int
    reason: int
    answers: int
    request_id: int
    order_id: int
    client_order_id: int | str
    price: int
    quantity: int
    cum_qty: int
    leaves_qty: int
    last_price: int
    last_qty: int
    trade_id: int
    timestamp_ns: int
    sequence: int
    account_sequence: int


class Reject(Message, tag=21):
    """The command was not carried out: ``field`` breaks the rule in ``text``."""

    command_type: int
    symbol: int
    request_id: int
    order_id: int
    client_order_id: int | str
    code: int
    code_name: str
    field: str
    text: str
    timestamp_ns: int
    sequence: int
    account_sequence: int


class MassCancelReport(Message, tag=22):
    """The answer to ``MassCancel``, after the reports of the orders that it cancelled."""

    symbol: int
    request_id: int
    canceled_orders: int
    timestamp_ns: int
    sequence: int
    account_sequence: int


class OrderState(Message, tag=23):
    """The answer to ``OrderQuery``; fields as in ``ipc.records.ORDER``."""

    request_id: int
    order_id: int
    client_order_id: int | str
    symbol: int
    side: int
    order_type: int
    time_in_force: int
    flags: int
    ord_status: int
    reason: int
    price: int
    quantity: int
    cum_qty: int
    leaves_qty: int
    created_ns: int
    updated_ns: int
    stop_price: int = 0
    display_quantity: int = 0


class Trade(Part):
    """One trade; fields as in ``ipc.records.TRADE``."""

    trade_id: int
    symbol: int
    price: int
    quantity: int
    buy_order_id: int
    sell_order_id: int
    taker_side: int
    timestamp_ns: int


class TradeList(Message, tag=24):
    """The answer to ``TradesQuery``, newest first."""

    request_id: int
    trades: list[Trade]


class Level(Part):
    """One price level."""

    price: int
    quantity: int
    order_count: int


class BookSnapshot(Message, tag=25):
    """The answer to ``BookQuery``, best levels first, as of the shard's command ``sequence``."""

    request_id: int
    symbol: int
    sequence: int
    bids: list[Level]
    asks: list[Level]


class InstrumentInfo(Part):
    """One instrument: its number, name and shard, and what a tick and a lot are, as decimals.

    A ``retired`` one takes no orders any more: reports of earlier ones are said in its ticks
    and lots.
    """

    number: int
    symbol: str
    tick_size: str
    lot_size: str
    min_price: int
    max_price: int
    shard: int = 0
    retired: bool = False


class Welcome(Message, tag=30):
    """The answer to ``Login``. ``session`` is unique while the engine runs.

    ``account_sequences``: where the account stands, by shard. Reports up to there that
    ``resume`` asked for follow at once, and after them those that come. A shard that cannot
    say where it stands is not in the list.
    """

    session: int
    user_id: str
    version: str
    instruments: list[InstrumentInfo]
    account_sequences: list[int] = []


class Pong(Message, tag=31):
    """The answer to ``Ping``."""

    request_id: int


class Closing(Message, tag=32):
    """Why the frontend closes the connection, sent last."""

    code: str
    text: str


class ShardRestarted(Message, tag=33):
    """A shard serves again whose matcher had died: nothing else of its past is still to come.

    ``account_sequence`` is the last report it has for the account. Of the bytes that the
    session sent, Login included, the first ``sent_bytes`` came before the frontend saw the
    matcher die: a command among them for this shard that is not answered by now was not
    carried out.
    """

    account_sequence: int
    sent_bytes: int


# Between processes of the product ----------------------------------------------------------------


class OpenStream(Message, tag=40):
    """Frames of ``stream`` are the account's from now on; a frontend sends it first.

    A matcher cancels all orders of an account when ``cancel_on_disconnect`` ends: by a
    further OpenStream without it, or with the link; unless another link still has it.
    """

    stream: int
    account: int
    cancel_on_disconnect: bool = False


class StreamOpened(Message, tag=41):
    """A matcher's answer to an OpenStream that opens: the account's last report so far.

    All reports after that one follow on the link.
    """

    account_sequence: int


class CloseStream(Message, tag=42):
    """A frontend sends no more on ``stream``, and wants no more of its reports from a matcher.

    It may open it again; that is answered like the first time.
    """

    stream: int


class TestRequest(Message, tag=43):
    """A frontend asks a matcher for a Heartbeat; it belongs to no stream."""

    __test__ = False  # nothing for pytest, though FIX calls it so


class Heartbeat(Message, tag=44):
    """A matcher's answer to a TestRequest: what came before that is matched."""


# up to here


CLIENT_COMMANDS = NewOrder | Cancel | Replace | Reduce | MassCancel | NewOco | NewBracket
CLIENT_QUERIES = OrderQuery | TradesQuery | BookQuery
CLIENT_MESSAGES = CLIENT_COMMANDS | CLIENT_QUERIES | Login | Ping
BACKEND_MESSAGES = CLIENT_COMMANDS | CLIENT_QUERIES | OpenStream | CloseStream | TestRequest
SERVER_MESSAGES = (
    Report
    | Reject
    | MassCancelReport
    | OrderState
    | TradeList
    | BookSnapshot
    | Welcome
    | Pong
    | Closing
    | ShardRestarted
)
FRONTEND_MESSAGES = StreamOpened | MassCancelReport | Reject | Heartbeat
"""What a matcher tells a frontend itself, on ``ipc.wire.matcher_codec.FRONTEND_STREAM``."""

COMMAND_TAGS = frozenset({tag_of(kind) for kind in get_args(CLIENT_COMMANDS)})
QUERY_TAGS = frozenset({tag_of(kind) for kind in get_args(CLIENT_QUERIES)})

encoder = Encoder()
client_decoder = Decoder(CLIENT_MESSAGES)
backend_decoder = Decoder(BACKEND_MESSAGES)
server_decoder = Decoder(SERVER_MESSAGES)
frontend_decoder = Decoder(FRONTEND_MESSAGES)
