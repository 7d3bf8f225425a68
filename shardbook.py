"""Shardbook for programs: clients that trade, a reader of what is there, records and their words.

``Client`` and ``AsyncClient`` send orders; ``Reader`` shows trades, orders and books of a product
on this machine as numpy arrays. ``COMMAND``, ``REPORT``, ``TRADE``, ``ORDER`` and ``LEVEL`` are the
dtypes of these, and the enums say what their numbers mean.

A program may have a folder by the name of one of the product's packages, which Python would import
in its place. Here that is an error that names it.
"""

from importlib.util import find_spec
from pathlib import Path

_ours = Path(__file__).resolve().parent / "frontend"
_found = find_spec("frontend")
_places = list(_found.submodule_search_locations or [_found.origin or ""]) if _found else []
if not any(Path(place).resolve() == _ours for place in _places):
    raise ImportError(
        f"Shardbook's package 'frontend' in {_ours.parent} is shadowed by {', '.join(_places)}: "
        "rename that, or run the program from another directory"
    )

from frontend.client import Client  # noqa: E402
from frontend.client.asynchronous import AsyncClient  # noqa: E402
from frontend.reading import Reader  # noqa: E402
from ipc.records import COMMAND, LEVEL, ORDER, REPORT, TRADE  # noqa: E402
from ipc.vocabulary import (  # noqa: E402
    CommandType,
    ExecType,
    Flag,
    Liquidity,
    OrderType,
    OrdStatus,
    Reason,
    Side,
    TimeInForce,
)

__all__ = [
    "COMMAND",
    "LEVEL",
    "ORDER",
    "REPORT",
    "TRADE",
    "AsyncClient",
    "Client",
    "CommandType",
    "ExecType",
    "Flag",
    "Liquidity",
    "OrdStatus",
    "OrderType",
    "Reader",
    "Reason",
    "Side",
    "TimeInForce",
]
