"""The depth stream against the board's own words, at every single change."""

import random
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from engine.config import load_config
from frontend.http.depth import applied
from frontend.http.feeds import DepthFeed, Feed
from frontend.http.market import Market
from ipc.memory.depth_board import BoardReader, BoardWriter, create_board
from ipc.records import LEVEL

CHANGES = 100_000
LEVELS = 12


class Client:
    """Rebuilds a book from the messages that a feed pushes."""

    def __init__(self) -> None:
        self.sequence = -1
        self.bids: list[tuple[int, int, int]] = []
        self.asks: list[tuple[int, int, int]] = []
        self.messages = 0

    def push(self, key: Feed, message: str) -> None:
        """Take a message."""
        assert isinstance(key, DepthFeed)
        told: Any = msgspec.json.decode(message)
        if told["type"] == "snapshot":
            self.bids, self.asks = [], []
        else:
            assert told["previous"] == self.sequence
        self.sequence = told["sequence"]
        self.bids = applied(self.bids, [_level(row) for row in told["bids"]], -1)
        self.asks = applied(self.asks, [_level(row) for row in told["asks"]], 1)
        text = ",".join(f"{p}:{q}" for p, q, _ in [*self.bids[:10], *self.asks[:10]])
        assert told["checksum"] == zlib.crc32(text.encode())
        self.messages += 1

    def cut_off(self, code: str, text: str) -> None:
        """Never."""
        raise AssertionError((code, text))


def _level(row: list[Any]) -> tuple[int, int, int]:
    return round(row[0] * 100), int(Decimal(row[1])), row[2]


def test_the_rebuilt_book_equals_the_board_after_each_of_many_changes(
    tmp_path: Path, seed: int
) -> None:
    """Also through a client that leaves and comes back while the board changes."""
    instrument = load_config().listed()[0]
    path = tmp_path / "depth"
    create_board(path, 0, [instrument.number], LEVELS)
    writer, reader = BoardWriter(path), BoardReader(path)
    feed = DepthFeed(Market(instrument), reader)
    client = Client()
    feed.subscribers.add(client)
    feed.refresh()
    client.push(feed, feed.first())
    dice = random.Random(seed)
    sides: dict[str, dict[int, list[int]]] = {"bids": {}, "asks": {}}
    for sequence in range(1, CHANGES + 1):
        side = dice.choice(("bids", "asks"))
        price = dice.randrange(1, 20) + (0 if side == "bids" else 20)
        if dice.random() < 0.4:
            sides[side].pop(price, None)
        else:
            sides[side][price] = [dice.randrange(1, 1_000), dice.randrange(1, 9)]
        bids = [(p, *sides["bids"][p]) for p in sorted(sides["bids"], reverse=True)][:LEVELS]
        asks = [(p, *sides["asks"][p]) for p in sorted(sides["asks"])][:LEVELS]
        writer.publish(
            instrument.number, sequence, sequence, np.array(bids, LEVEL), np.array(asks, LEVEL)
        )
        feed.look()
        assert (client.bids, client.asks) == (bids, asks)
        if dice.random() < 0.001:
            client = Client()
            feed.subscribers = {client}
            client.push(feed, feed.first())
            assert (client.bids, client.asks) == (bids, asks)
