"""Recorded order flows as COMMAND arrays, for the books that are run on them."""

import numpy as np

from engine.books.contract import BookLimits, Records
from frontend.replay.flow_file import Flow, Op, Tif
from ipc.records import COMMAND
from ipc.vocabulary import MAX_RESTING_ORDERS, CommandType, Flag, OrderType, TimeInForce

RECORDED = {"GOOG": "GOOG_merged_flow.csv.gz", "BTCUSD": "BTCUSD_flow.csv.gz"}
"""The flows of a data directory: the file of each."""
SYMBOL = 1
ACCOUNT = 1

_COMMAND_TYPES = {
    Op.N: CommandType.NEW,
    Op.L: CommandType.NEW,
    Op.X: CommandType.NEW,
    Op.C: CommandType.CANCEL,
    Op.R: CommandType.REDUCE,
    Op.M: CommandType.REPLACE,
    Op.P: CommandType.NEW_OCO,
    Op.B: CommandType.NEW_BRACKET,
}


def recorded_limits(flow: Flow) -> BookLimits:
    """Return an instrument whose band covers the flow's prices."""
    return BookLimits(SYMBOL, flow.min_price, flow.max_price, MAX_RESTING_ORDERS)


def recorded_commands(flow: Flow) -> Records:
    """Return what ``frontend.replay.flow_file.message_of`` says of each row, as COMMAND records.

    One account owns all orders; ``request_id`` is the row's place, from 1.
    """
    rows = flow.rows
    commands = np.zeros(len(rows), COMMAND)
    types = np.zeros(max(Op) + 1, np.uint8)
    types[list(_COMMAND_TYPES)] = list(_COMMAND_TYPES.values())
    commands["command_type"] = types[rows["op"]]
    commands["symbol"] = SYMBOL
    commands["account"] = ACCOUNT
    commands["request_id"] = np.arange(1, len(rows) + 1)
    commands["client_order_id"] = rows["id"]
    commands["timestamp_ns"] = rows["ts_ns"]
    new = commands["command_type"] == CommandType.NEW
    market, stop = new & (rows["tif"] == Tif.MKT), rows["stop_price"] != 0
    immediate = (rows["op"] == Op.X) | np.isin(rows["tif"], (Tif.IOC, Tif.MKT))
    replace, reduce = rows["op"] == Op.M, rows["op"] == Op.R
    priced, counted = (new & ~market) | replace, new | replace | reduce
    commands["side"][new] = rows["side"][new]
    plain = np.where(market, OrderType.MARKET, OrderType.LIMIT)
    waiting = np.where(market, OrderType.STOP, OrderType.STOP_LIMIT)
    commands["order_type"][new] = np.where(stop, waiting, plain)[new]
    commands["stop_price"][new | replace] = rows["stop_price"][new | replace]
    commands["display_quantity"][new | replace] = rows["display_quantity"][new | replace]
    ends = np.where(rows["expire_time_ns"] != 0, TimeInForce.GTD, TimeInForce.GTC)
    commands["time_in_force"][new] = np.where(immediate, TimeInForce.IOC, ends)[new]
    for name in ("expire_time_ns", "minimum_quantity"):
        commands[name][new] = rows[name][new]
    commands["flags"][new & (rows["tif"] == Tif.PO)] = Flag.POST_ONLY
    commands["flags"][replace] = Flag.REINSERT
    commands["price"][priced] = rows["price"][priced]
    commands["quantity"][counted] = rows["qty"][counted]
    _fill_lists(commands, rows)
    return commands


def _fill_lists(commands: Records, rows: Records) -> None:
    """Fill in what pairs and brackets have."""
    pair, bracket = (rows["op"] == op for op in (Op.P, Op.B))
    listed, market = pair | bracket, rows["tif"] == Tif.MKT
    at_once = np.isin(rows["tif"], (Tif.IOC, Tif.MKT))
    ends = np.where(rows["expire_time_ns"] != 0, TimeInForce.GTD, TimeInForce.GTC)
    for name, values in (
        ("side", rows["side"]),
        ("time_in_force", np.where(at_once, TimeInForce.IOC, ends)),
        ("price", np.where(bracket & market, 0, rows["price"])),
        ("quantity", rows["qty"]),
        ("stop_price", rows["stop_price"]),
        ("display_quantity", rows["stop_limit_price"]),
        ("expire_time_ns", rows["expire_time_ns"]),
    ):
        commands[name][listed] = values[listed]
    kinds = np.where(market, OrderType.MARKET, OrderType.LIMIT)
    commands["order_type"][bracket] = kinds[bracket]
    commands["minimum_quantity"][bracket] = rows["take_price"][bracket]
    commands["flags"][bracket & (rows["tif"] == Tif.PO)] = Flag.POST_ONLY
