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
