"""Entries of the log: what one message of the topic of commands holds.

Numbers are little-endian::

    ENTRY        life, number, terms, about, link, streams                   40 bytes
    STREAM       stream, zeros, account: for each stream of the frames       16 bytes each
    frames       of the socket's protocol, whole, 64 KiB of them at the most

``life`` is drawn by each matcher when it begins, and ``number`` counts its entries: so it knows
which ones are its own. ``link`` is one of its links. An entry says itself whose its frames are, so
what it comes to depends on the books alone. One without frames only lets time go on. One that is
``about`` its own life says something of itself, and ``link`` what: see ``Kind``.
"""

import hashlib
import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

import msgspec

from engine.journal.shard_config import ShardConfig
from engine.sections import KeySection

VERSION = b"2"
HEADERS: list[tuple[str, str | bytes | None]] = [("version", VERSION)]
_HEAD = struct.Struct("<QQQQII")
_STREAM = struct.Struct("<IIQ")


class EntryError(Exception):
    """A message is no entry; the text says why."""


class Kind(IntEnum):
    """What an entry is; the first ones are numbers of ``link`` where it is about its own life."""

    PRESENT = 0
    SPEAKS_FOR = 1
    """Its accounts are those that this matcher speaks for."""
    BEGIN = 2
    """Its only stream is the number of the node, and its account the data directory."""
    END = 3
    """A matcher has stopped in order."""
    FORGET = 4
    """An operator's: the numbers of its streams are free."""
    COMMANDS = 5
    CANCELS = 6
    """For those that another life, which has gone, spoke for."""


class Entry(NamedTuple):
    """One entry."""

    life: int
    number: int
    terms: int
    """The configuration that it was sent under: see ``terms_of``."""
    about: int
    link: int
    streams: list[tuple[int, int]]
    """Stream and account."""
    frames: bytes

    @property
    def kind(self) -> Kind:
        """What it is."""
        if self.about == self.life:
            return Kind(self.link)
        return Kind.CANCELS if self.about else Kind.COMMANDS

    def encode(self) -> bytes:
        """Return its bytes."""
        head = _HEAD.pack(*self[:5], len(self.streams))
        streams = (_STREAM.pack(stream, 0, account) for stream, account in self.streams)
        return b"".join((head, *streams, self.frames))


def decode(data: bytes) -> Entry:
    """Return the entry of a message. Raises ``EntryError``."""
    if len(data) < _HEAD.size:
        raise EntryError(f"{len(data)} bytes are too few")
    life, number, terms, about, link, count = _HEAD.unpack_from(data)
    start = _HEAD.size + count * _STREAM.size
    if len(data) < start:
        raise EntryError(f"{count} streams are more than its {len(data)} bytes hold")
    if about == life and (link >= Kind.COMMANDS or (link == Kind.BEGIN and count != 1)):
        raise EntryError(f"it says {link} of itself, of {count}")
    found = _STREAM.iter_unpack(data[_HEAD.size : start])
    streams = [(stream, account) for stream, _, account in found]
    return Entry(life, number, terms, about, link, streams, data[start:])


def terms_of(shard_config: ShardConfig, keys: Iterable[KeySection]) -> int:
    """Return a digest of what commands come to different things under."""
    modes = {(key.user_id, key.self_trade_prevention) for key in keys}
    given = sorted((user, mode) for user, mode in modes if mode != "none")
    text = msgspec.json.encode((shard_config, given))
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
