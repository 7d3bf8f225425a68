"""What the writer of a depth board does in compiled code; ``ipc.memory.depth_board`` says what it
means.

A slot is the address of a symbol's version word.
"""

from typing import Any

import numpy as np

from ipc.memory.depth_board import PAGES_AT
from ipc.native.compiled import inlined
from ipc.native.kernel_atomics import fence, store_release
from ipc.native.views import array_at
from ipc.records import DEPTH, LEVEL

_ONE = np.uint64(1)
_PAGES_AT = np.uint64(PAGES_AT)
_DEPTH_BYTES, _LEVEL_BYTES = np.uint64(DEPTH.itemsize), np.uint64(LEVEL.itemsize)


@inlined
def begin_page(slot: Any, page_bytes: Any) -> Any:
    """Return the address of the page that is not shown, which may be written from now on."""
    version = array_at(slot, 1, np.uint64)[0]
    fence()
    return slot + _PAGES_AT + (version & _ONE ^ _ONE) * page_bytes


@inlined
def levels_at(page: Any, side: int, levels: Any) -> Any:
    """Return the address of a page's LEVEL records of bids (side 0), or of asks (side 1)."""
    return page + _DEPTH_BYTES + np.uint64(side) * _LEVEL_BYTES * levels


@inlined
def show_page(
    slot: Any, page: Any, sequence: Any, timestamp_ns: Any, bid_levels: Any, ask_levels: Any
) -> None:
    """Show a page that was written."""
    depth = array_at(page, 1, DEPTH)[0]
    depth.sequence = sequence
    depth.timestamp_ns = timestamp_ns
    depth.bid_levels = bid_levels
    depth.ask_levels = ask_levels
    version = array_at(slot, 1, np.uint64)
    store_release(version, np.uint64(0), version[0] + _ONE)
