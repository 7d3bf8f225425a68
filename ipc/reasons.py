"""Why a command was rejected or an order cancelled: a row a reason, and nothing of it elsewhere.

Codes are stable: journals and clients keep them. One is never reused for another meaning.
"""

from enum import IntEnum
from typing import NamedTuple

from ipc.bounds import MAX_CLIENT_ID, MAX_PRICE, MAX_QUANTITY

MAX_REASON = 0xFFFF
"""What records have room for."""


class Rule(NamedTuple):
    """What a reject names: the field at fault and the rule that it breaks."""

    field: str
    text: str


class Reason(IntEnum):
    """Why a command was rejected (1 to 99, 128 and up) or an order cancelled (100 to 127).

    A row: code; the field at fault and the rule that it breaks; the HTTP status, and the code in
    HTTP where that is not the name. Without a rule it is no reject.
    """

    field: str
    rule: str
    http_status: int
    http_code: str

    def __new__(
        cls, code: int, field: str = "", rule: str = "", http_status: int = 0, http_code: str = ""
    ) -> "Reason":
        """Make one row."""
        row = int.__new__(cls, code)
        row._value_ = code
        row.field, row.rule, row.http_status, row.http_code = field, rule, http_status, http_code
        return row

    NONE = 0
    # The frame or message: found at the edge, before a book sees the command.
    INVALID_MESSAGE = 1, "message", "must be a message of this protocol", 400, "INVALID_REQUEST"
    UNKNOWN_TAG = 2, "tag", "must be the tag of a message of this protocol", 400, "INVALID_REQUEST"
    UNKNOWN_SYMBOL = 3, "symbol", "must be the number of an instrument", 400
    # The command's fields.
    INVALID_COMMAND = (
        10, "command_type", "must be NEW to NEW_BRACKET (1 to 7)", 400, "INVALID_REQUEST",
    )  # fmt: skip
    INVALID_SIDE = 11, "side", "must be BUY (1) or SELL (2)", 400
    INVALID_ORDER_TYPE = (
        12, "order_type",
        "must be MARKET (1), LIMIT (2), STOP (3), STOP_LIMIT (4), MARKET_IF_TOUCHED (19), "
        "MARKET_TO_LIMIT (20), LIMIT_IF_TOUCHED (36) or MARKET_WITH_PROTECTION (38)", 400,
    )  # fmt: skip
    INVALID_TIME_IN_FORCE = (
        13, "time_in_force",
        "must be DAY (0), GTC (1), IOC (3), FOK (4) or GTD (6), and IOC or FOK on a "
        "MARKET_WITH_PROTECTION order", 400,
    )  # fmt: skip
    INVALID_POST_ONLY = (
        14, "post_only", "must be false but on a LIMIT order that is GTC, DAY or GTD", 400,
    )  # fmt: skip
    INVALID_QUANTITY = 15, "quantity", f"must be 1 to {MAX_QUANTITY} lots in all", 400
    INVALID_PRICE = (
        16, "price",
        f"must be 1 to {MAX_PRICE} ticks, and 0 on a MARKET, STOP, MARKET_IF_TOUCHED or "
        "MARKET_TO_LIMIT order", 400,
    )  # fmt: skip
    PRICE_OUT_OF_BAND = 17, "price", "must be within the instrument's price band", 400
    INVALID_ORDER_ID = (
        18, "order_id", "must be given, or else client_order_id together with symbol", 400,
    )  # fmt: skip
    INVALID_REPLACE = 19, "price", "must be given, or else quantity, on a REPLACE", 400
    INVALID_STOP_PRICE = (
        20, "stop_price",
        "must be within the instrument's price band on an order that waits for it, and not be "
        "given on an order of another type, or one that is triggered", 400,
    )  # fmt: skip
    INVALID_SELF_TRADE_PREVENTION = (
        21, "self_trade_prevention", "must be NONE (0) to DECREMENT (4)", 400,
    )  # fmt: skip
    INVALID_DISPLAY_QUANTITY = (
        22, "display_quantity",
        "must be at most the quantity, and not less than a hundredth of what is open, on a LIMIT, "
        "STOP_LIMIT or LIMIT_IF_TOUCHED order that is GTC, DAY or GTD; a replace gives it only to "
        "an order that has one", 400,
    )  # fmt: skip
    INVALID_EXPIRE_TIME = (
        23, "expire_time_ns", f"must be 1 to {MAX_CLIENT_ID} on a GTD order, and 0 on others", 400,
    )  # fmt: skip
    INVALID_MINIMUM_QUANTITY = (
        24, "minimum_quantity",
        "must be at most the quantity, on a LIMIT, MARKET or MARKET_WITH_PROTECTION order that is "
        "IOC", 400,
    )  # fmt: skip
    INVALID_LIST = (
        25, "order_list",
        "must have prices within the instrument's price band: an exit's take_price, or its "
        "stop_price, or both; a stop_limit_price only with a stop_price; a price to sell at above "
        "the stop_price beside it, one to buy at below; and ids for all of its orders", 400,
    )  # fmt: skip
    # The state of the book.
    DUPLICATE_CLIENT_ORDER_ID = (
        30, "client_order_id",
        "must not repeat that of a live or recent order of the account and symbol", 409,
    )  # fmt: skip
    BOOK_FULL = 31, "symbol", "must have room: max_resting_orders rest there or wait", 409
    POST_ONLY_WOULD_TRADE = 32, "price", "must not cross the book: the order is post-only", 409
    UNKNOWN_ORDER = (
        33, "order_id", "must be that of a resting order of the account", 404, "ORDER_NOT_FOUND",
    )  # fmt: skip
    ALREADY_FILLED = 34, "quantity", "must exceed what is filled already", 409
    TOO_MANY_ORDERS = (
        35, "symbol",
        "must have room for the account: its max_account_orders rest there or wait", 409,
    )  # fmt: skip
    LINKED_ORDER = (
        36, "order_id",
        "must not be that of an order tied to others, but for a cancel, or a replace that keeps "
        "the quantity of one that is not held", 409,
    )  # fmt: skip
    # The state of the product.
    BUSY = 50, "symbol", "must not be sent faster than its matcher takes them: try again", 503
    SHARD_DOWN = 51, "symbol", "must be served: its matcher is down, try again", 503
    NOT_LOGGED_IN = 52, "user_id", "must be logged in first", 503, "NOT_READY"
    # Why an order was cancelled.
    CANCEL_REQUESTED = 100
    IOC_REMAINDER = 101
    MARKET_REMAINDER = 102
    FOK_UNFILLED = 103
    MASS_CANCEL = 104
    SELF_TRADE = 105
    EXPIRED = 106
    MINIMUM_UNFILLED = 107
    LINKED = 108


RULES: dict[Reason, Rule] = {
    reason: Rule(reason.field, reason.rule) for reason in Reason if reason.rule
}
"""The text of every reject that a book or a frontend gives; one code, one field, one rule."""


def problem_of(code: int, field: str, rule: str, http_status: int) -> str:
    """Return what a row lacks, or nothing."""
    if not 0 <= code <= MAX_REASON:
        return f"code {code}: must be 0 to {MAX_REASON}"
    if rule:
        return "" if field and 400 <= http_status < 600 else "a reject without field or HTTP status"
    return "" if code == 0 or 100 <= code < 128 else "a reject without a rule"


for _reason in Reason:
    if _problem := problem_of(_reason, _reason.field, _reason.rule, _reason.http_status):
        raise ValueError(f"{_reason.name}: {_problem}")
