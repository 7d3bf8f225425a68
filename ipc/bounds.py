"""The bounds of what a client may send."""

MAX_PRICE = 2**53
"""Ticks. Prices are 1 to this, so that every JSON reader keeps them exactly."""
MAX_QUANTITY = 2**44 - 1
"""Lots of one order, filled ones included. With MAX_RESTING_ORDERS a level's sum fits 64 bits."""
MAX_PEER_TIMEOUT_S = 3_600
MAX_RESTING_ORDERS = 2**20
"""Of one symbol: the highest value of its ``max_resting_orders``."""
MAX_CLIENT_ID = 2**63 - 1
"""Of a ``client_order_id`` and a ``request_id``; 0 means none."""
TEXT_BIT = 1 << 63
"""Of a number inside that stands for a ``client_order_id`` which is a text."""
MAX_TEXT = 64
"""Characters of a ``client_order_id`` that is a text."""
MAX_LIST_TEXT = MAX_TEXT - 2
"""Of that of a list, whose further orders have ``.2`` and ``.3`` behind it."""
TEXT_PATTERN, LIST_PATTERN = (
    rf"^(?=.*[^0-9])[!-~]{{1,{most}}}$(?!\n)" for most in (MAX_TEXT, MAX_LIST_TEXT)
)
"""Visible ASCII characters, not all of them digits: nothing is both a number and a text."""


def text_rule(most: int = MAX_TEXT) -> str:
    """Return the rule of a text in words."""
    return f"must be 1 to {most} visible ASCII characters, not all of them digits"


TEXT_RULE = text_rule()
