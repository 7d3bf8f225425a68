"""Candles of trades, made from rows: open, high, low, close, volume and count of an interval."""

import numpy as np

from engine.books.contract import Records
from ipc.arrays import Integers

CANDLE_ROW = np.dtype(
    [(name, "<i8") for name in ("start_ns", "open", "high", "low", "close", "volume", "trades")]
)
"""One candle: ticks, lots, and how many trades; it begins at ``start_ns``."""


def candles_of(trades: Records, width_ns: int) -> Records:
    """Return the candles (CANDLE_ROW) of trades (TRADE_ROW) of one symbol, oldest first."""
    trades = trades[np.argsort(trades["trade_id"])]
    starts = trades["timestamp_ns"] - trades["timestamp_ns"] % width_ns
    firsts = _firsts(starts)
    candles = np.zeros(len(firsts), CANDLE_ROW)
    if not len(firsts):
        return candles
    prices = trades["price"]
    candles["start_ns"] = starts[firsts]
    candles["open"], candles["close"] = prices[firsts], prices[_lasts(firsts, len(prices))]
    candles["high"] = np.maximum.reduceat(prices, firsts)
    candles["low"] = np.minimum.reduceat(prices, firsts)
    candles["volume"] = np.add.reduceat(trades["quantity"], firsts)
    candles["trades"] = np.diff(np.append(firsts, len(prices)))
    return candles


def joined(candles: Records) -> Records:
    """Return candles as one each interval, oldest first; those of one interval follow each other in
    the order of their trades."""
    candles = candles[np.argsort(candles["start_ns"], kind="stable")]
    firsts = _firsts(candles["start_ns"])
    whole = candles[firsts]
    if len(firsts) < len(candles):
        whole["close"] = candles["close"][_lasts(firsts, len(candles))]
        whole["high"] = np.maximum.reduceat(candles["high"], firsts)
        whole["low"] = np.minimum.reduceat(candles["low"], firsts)
        whole["volume"] = np.add.reduceat(candles["volume"], firsts)
        whole["trades"] = np.add.reduceat(candles["trades"], firsts)
    return whole


def _firsts(starts: Integers) -> Integers:
    if not len(starts):
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.concatenate(([True], starts[1:] != starts[:-1])))


def _lasts(firsts: Integers, count: int) -> Integers:
    return np.append(firsts[1:], count) - 1
