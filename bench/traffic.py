"""The simulated flow as bytes, encoded before any clock runs: what the load generators send.

``bench.simulated_flow`` draws the commands (the same for the same seed); here they become
one frame each, as a client with msgspec would write them, sorted by client and kept in files, so
that a generator process only has to load what its clients send.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.simulated_flow import SimulatedFlow
from ipc.arrays import Integers
from ipc.instruments import Instrument
from ipc.wire.client_codec import command_frames

CHUNK = 8_192
_FILES = ("frames", "ends", "request_ids", "bounds")


class Share(NamedTuple):
    """What one client sends: its frames, where each ends in them, and its request id, ascending."""

    frames: npt.NDArray[np.uint8]
    ends: Integers
    request_ids: Integers

    def first(self, commands: int) -> "Share":
        """Return the part with request ids up to ``commands``."""
        count = int(np.searchsorted(self.request_ids, commands, "right"))
        size = int(self.ends[count - 1]) if count else 0
        return Share(self.frames[:size], self.ends[:count], self.request_ids[:count])


class Traffic:
    """The shares of all clients, kept in a directory. Request ids are dense over all of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._frames, self._ends, self._request_ids, self._bounds = (
            np.load(directory / f"{name}.npy", mmap_mode="r") for name in _FILES
        )
        self.clients = len(self._bounds) - 1
        self.commands = len(self._ends)
        self.bytes_a_command = len(self._frames) / self.commands

    def share(self, client: int) -> Share:
        """Return what one client sends."""
        first, stop = self._bounds[client : client + 2]
        begin = int(self._ends[first - 1]) if first else 0
        end = int(self._ends[stop - 1]) if stop else 0
        return Share(
            np.array(self._frames[begin:end]),
            np.array(self._ends[first:stop]) - begin,
            np.array(self._request_ids[first:stop]),
        )


def encode_traffic(
    directory: Path,
    instruments: Sequence[Instrument],
    clients: int,
    commands: int,
    seed: int,
    resting_orders: int,
) -> Traffic:
    """Draw and encode ``commands``, or some more, of ``clients``, and leave them in a directory.

    ``resting_orders`` are about how many rest in all books together.
    """
    flow = SimulatedFlow(instruments, range(1, clients + 1), [seed, clients], resting_orders)
    chunks = [flow.chunk(CHUNK) for _ in range(-(-commands // CHUNK))]
    drawn = np.concatenate(chunks)
    drawn = drawn[np.argsort(drawn["account"], kind="stable")]
    drawn["order_id"] = 0  # commands on orders go by client_order_id
    frames, ends = command_frames(drawn)
    directory.mkdir(parents=True)
    arrays: tuple[npt.NDArray[Any], ...] = (
        np.frombuffer(frames, np.uint8),
        ends,
        drawn["request_id"].astype(np.int64),
        np.searchsorted(drawn["account"], np.arange(1, clients + 2, dtype=np.uint64)),
    )
    for name, array in zip(_FILES, arrays, strict=True):
        np.save(directory / f"{name}.npy", array)
    return Traffic(directory)
