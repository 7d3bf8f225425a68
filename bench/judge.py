"""The public matching-engine judge: its messages as commands, our reports as its canonical text.

The judge (flash1-dev/matching-engine-benchmark) names an order by ``id``, one account has them all,
and a modify is a cancel and a new order at the back under the same id. So a judge's ``id`` is
``client_order_id`` id + 1 here, a modify is REPLACE with REINSERT, and the judge's ``seq`` is the
book's command ``sequence`` - 1.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.drive import Output
from engine.books.contract import BookLimits, Records
from ipc.codes import SIDE_BUY
from ipc.records import COMMAND
from ipc.vocabulary import (
    MAX_PRICE,
    MAX_RESTING_ORDERS,
    CommandType,
    ExecType,
    Flag,
    Liquidity,
    OrderType,
    Side,
    TimeInForce,
)

WORKLOADS = ("static", "normal", "swing-25", "swing-40", "flash-crash")
SEED = 23
SYMBOL = 1
ACCOUNT = 1
LIMITS = BookLimits(SYMBOL, 1, MAX_PRICE, MAX_RESTING_ORDERS)

ROW = np.dtype(
    [
        ("type", "<u8"),
        ("seq", "<u8"),
        ("side", "<u8"),
        ("id", "<u8"),
        ("price", "<u8"),
        ("qty", "<u8"),
        ("maker", "<u8"),
        ("taker", "<u8"),
    ]
)
"""One report of the judge's; fields that its type does not print are 0."""

ACCEPTED, TRADED, CANCELED, MODIFIED, CANCEL_REJECTED, MODIFY_REJECTED = range(6)

_PRINTED = {
    "seq": (ACCEPTED, TRADED, CANCELED, MODIFIED, CANCEL_REJECTED, MODIFY_REJECTED),
    "side": (ACCEPTED, CANCELED, MODIFIED),
    "id": (ACCEPTED, CANCELED, MODIFIED, CANCEL_REJECTED, MODIFY_REJECTED),
    "price": (ACCEPTED, TRADED, CANCELED, MODIFIED),
    "qty": (ACCEPTED, TRADED, MODIFIED),
    "maker": (TRADED,),
    "taker": (TRADED,),
}
"""Which types print a field; every type prints its fields in this order."""

_CHUNK = 1 << 16


class JudgeError(ValueError):
    """A book's reports say what the judge has no word for, or contradict themselves."""


def manifest(judge_dir: Path) -> dict[str, dict[str, Any]]:
    """Return the judge's manifest: for each workload name its counts and SHA-256 digests."""
    described: dict[str, dict[str, Any]] = json.loads((judge_dir / "manifest.json").read_text())
    return {name: described[f"{name}_s{SEED}"] for name in WORKLOADS}


def workload(judge_dir: Path, name: str) -> Records:
    """Return a workload's messages as COMMAND records."""
    with np.load(judge_dir / f"msgs_{name}_s{SEED}.npz") as columns:
        op = columns["op"]
        return commands(
            kind=op & 3,
            side=op >> 2 & 1,
            ioc=op >> 3 & 1,
            quantity=columns["qty"],
            order=columns["id"],
            price=columns["price"],
        )


def case_commands(ops: list[list[int]]) -> Records:
    """Return a conformance case's operations as COMMAND records."""
    kind, side, ioc, quantity, order, price = np.array(ops, dtype=np.uint64).T
    return commands(kind, side, ioc, quantity, order, price)


def commands(
    kind: npt.NDArray[Any],
    side: npt.NDArray[Any],
    ioc: npt.NDArray[Any],
    quantity: npt.NDArray[Any],
    order: npt.NDArray[Any],
    price: npt.NDArray[Any],
) -> Records:
    """Return COMMAND records of the judge's columns; ``kind`` is 0 new, 1 cancel, 2 modify."""
    records = np.zeros(len(kind), COMMAND)
    command_types = (CommandType.NEW, CommandType.CANCEL, CommandType.REPLACE)
    records["command_type"] = np.array(command_types, np.uint8)[kind]
    records["symbol"] = SYMBOL
    records["request_id"] = np.arange(1, len(kind) + 1)
    records["account"] = ACCOUNT
    records["client_order_id"] = order.astype(np.uint64) + np.uint64(1)
    records["timestamp_ns"] = np.arange(1, len(kind) + 1)
    new, cancel, modify = kind == 0, kind == 1, kind == 2
    records["side"][new] = (side + SIDE_BUY)[new]
    records["order_type"][new] = OrderType.LIMIT
    records["time_in_force"][new] = np.where(ioc == 1, TimeInForce.IOC, TimeInForce.GTC)[new]
    records["flags"][modify] = Flag.REINSERT
    records["price"][~cancel] = price[~cancel]
    records["quantity"][~cancel] = quantity[~cancel]
    return records


def rows(output: Output) -> Records:
    """Return reports and trades as the judge's, in its order (ROW).

    ``output`` holds whole commands. Raises JudgeError where a report has no place in the judge's
    vocabulary, or where the trades are not those that the reports tell of.
    """
    reports = output.reports
    traded = reports["exec_type"] == ExecType.TRADE
    taker = traded & (reports["liquidity"] == Liquidity.TAKER)
    _check_trades(output, np.flatnonzero(taker), int(np.count_nonzero(traded)))
    told = np.flatnonzero(~traded | taker)  # a trade is told once
    own = {name: reports[name][told] for name in ("client_order_id", "quantity", "price", "side")}
    kinds = _types(reports[told])
    judged = np.zeros(len(told), ROW)
    judged["type"] = kinds
    judged["seq"] = reports["sequence"][told] - np.uint64(1)
    judged["side"] = own["side"] - np.uint8(1)
    judged["id"] = own["client_order_id"] - np.uint64(1)
    judged["price"] = own["price"]
    judged["qty"] = own["quantity"]
    judged["qty"][kinds == MODIFIED] = reports["leaves_qty"][told[kinds == MODIFIED]]
    trades = kinds == TRADED
    judged["price"][trades] = reports["last_price"][told[trades]]
    judged["qty"][trades] = reports["last_qty"][told[trades]]
    judged["taker"][trades] = judged["id"][trades]
    judged["maker"][trades] = reports["client_order_id"][told[trades] + 1] - np.uint64(1)
    for name, printing in _PRINTED.items():
        judged[name][~np.isin(kinds, printing)] = 0
    return judged[np.argsort(judged["seq"] * np.uint64(8) + judged["type"], kind="stable")]


def _types(reports: Records) -> npt.NDArray[np.uint64]:
    """Return the judge's type of each report."""
    rejected = reports["exec_type"] == ExecType.REJECTED
    command_type = reports["command_type"]
    conditions = {
        ACCEPTED: reports["exec_type"] == ExecType.NEW,
        TRADED: reports["exec_type"] == ExecType.TRADE,
        CANCELED: reports["exec_type"] == ExecType.CANCELED,
        MODIFIED: reports["exec_type"] == ExecType.REPLACED,
        CANCEL_REJECTED: rejected & (command_type == CommandType.CANCEL),
        MODIFY_REJECTED: rejected & (command_type == CommandType.REPLACE),
    }
    nothing = len(conditions)
    types = np.select(list(conditions.values()), list(conditions), nothing)
    if (types == nothing).any():
        raise JudgeError(f"not a report of the judge's: {reports[types == nothing][0]}")
    return types.astype(np.uint64)


def _check_trades(output: Output, takers: npt.NDArray[np.intp], traded: int) -> None:
    """Hold the TRADE records against the pairs of reports that tell of the same trades."""
    reports, trades = output
    if not len(takers) == len(trades) == traded / 2:
        raise JudgeError(f"{len(trades)} trades, but {len(takers)} takers, {traded} trade reports")
    bought = trades["taker_side"] == Side.BUY
    taken = np.where(bought, trades["buy_order_id"], trades["sell_order_id"])
    made = np.where(bought, trades["sell_order_id"], trades["buy_order_id"])
    for positions, liquidity, order_ids in (
        (takers, Liquidity.TAKER, taken),
        (takers + 1, Liquidity.MAKER, made),
    ):
        expected = {
            "liquidity": np.full(len(trades), liquidity),
            "order_id": order_ids,
            "trade_id": trades["trade_id"],
            "sequence": trades["sequence"],
            "last_price": trades["price"],
            "last_qty": trades["quantity"],
        }
        for name, values in expected.items():
            wrong = np.flatnonzero(reports[name][positions] != values)
            if len(wrong):
                raise JudgeError(f"{name} of a report differs from trade {trades[wrong[0]]}")


def text(judged: Records) -> bytes:
    """Return the canonical text: one report a line, ``\\n`` between lines."""
    parts = [_lines(judged[start : start + _CHUNK]) for start in range(0, len(judged), _CHUNK)]
    return b"".join(parts)[:-1]


def _lines(judged: Records) -> bytes:
    """Write decimals right-aligned into a matrix of characters, and then close the gaps."""
    kinds = judged["type"]
    columns = [kinds.astype(np.uint8) + np.uint8(ord("0"))]
    for name, printing in _PRINTED.items():
        printed = np.isin(kinds, printing)
        columns.append(np.where(printed, ord(","), 0))
        columns += _digits(judged[name], printed)
    columns.append(np.full(len(judged), ord("\n")))
    matrix = np.column_stack([column.astype(np.uint8) for column in columns]).ravel()
    characters: bytes = matrix[matrix != 0].tobytes()
    return characters


def _digits(
    values: npt.NDArray[np.uint64], printed: npt.NDArray[np.bool_]
) -> list[npt.NDArray[np.uint8]]:
    """Return a column of characters for each decimal place, 0 where there is nothing to print."""
    places = []
    widest = len(str(values.max(initial=0)))
    for place in reversed(range(widest)):
        scaled = values // np.uint64(10**place)
        shown = printed if place == 0 else printed & (scaled > 0)
        places.append(np.where(shown, scaled % np.uint64(10) + np.uint64(ord("0")), 0))
    return [place.astype(np.uint8) for place in places]


class ReportDigest:
    """SHA-256 of a report stream's canonical text, fed batch by batch of whole commands."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._started = False

    def update(self, judged: Records) -> None:
        """Add reports (ROW) to the stream."""
        if not len(judged):
            return
        if self._started:
            self._sha256.update(b"\n")
        self._sha256.update(text(judged))
        self._started = True

    def hexdigest(self) -> str:
        """Return the digest of all reports so far."""
        return self._sha256.hexdigest()
