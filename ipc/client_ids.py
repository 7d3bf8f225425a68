"""client_order_ids that are texts: what each is inside, and how it gets to a shard.

A client names its orders by numbers or by texts. Inside there are only numbers: a text stands for
one with the highest bit set, which no client can send, and below it 61 bits of a digest; so books,
records and indices know nothing of texts. The lowest two bits are 0, and 1 and 2 for the second and
third order of a list, whose texts are that of the first with ``.2`` and ``.3`` behind it.

The text itself comes ahead of each command that has one as a command of its own, NAME, which
journals and logs keep like any other. A book passes it over; the order table keeps the text with
the order, in a part of its own that has memory once the first text comes.
"""

import hashlib
import re
from struct import Struct

import numpy as np

from ipc.arrays import Records, Words
from ipc.bounds import MAX_TEXT, TEXT_BIT, TEXT_PATTERN
from ipc.codes import ADMINISTRATION_NAME
from ipc.records import CommandRow
from ipc.vocabulary import LISTS

TEXT_BYTES = MAX_TEXT
TEXT_WORDS = TEXT_BYTES // 8
NAMED_WORDS = 1 + TEXT_WORDS
"""Of a known text: its number, and its bytes, zeros behind them."""
TEXT = np.dtype([("order_id", "<u8"), ("text", f"S{TEXT_BYTES}")])
"""The text that is an order's client_order_id, as snapshots keep it."""
NO_TEXTS: Records = np.zeros(0, TEXT)
_FIELDS = (
    "request_id",
    "order_id",
    "price",
    "quantity",
    "stop_price",
    "display_quantity",
    "expire_time_ns",
    "minimum_quantity",
)
"""Where a NAME has its text, eight bytes each; its client_order_id is the text's number."""
assert len(_FIELDS) == TEXT_WORDS
_PATTERN = re.compile(TEXT_PATTERN.encode())
_WORDS = Struct(f"<{TEXT_WORDS}Q")
_PLACES_OF_WORDS = tuple(map(CommandRow._fields.index, _FIELDS))
_TYPE, _ACCOUNT, _ID, _TIME = map(
    CommandRow._fields.index, ("command_type", "account", "client_order_id", "timestamp_ns")
)
_PLACES = {b".2": 1, b".3": 2}
_SUFFIX_BYTES = 2
_PLACE_BITS = 3

ClientOrderId = int | str


def is_client_text(text: bytes) -> bool:
    """Tell whether these bytes may be a client_order_id."""
    return _PATTERN.search(text) is not None


def number_of(text: str | bytes) -> int:
    """Return the number that a text stands for."""
    data = text.encode() if isinstance(text, str) else text
    place = _PLACES.get(data[-_SUFFIX_BYTES:], 0)
    digest = hashlib.blake2b(data[: len(data) - _SUFFIX_BYTES] if place else data, digest_size=8)
    number = int.from_bytes(digest.digest(), "little") | TEXT_BIT
    return number & ~_PLACE_BITS | place


def as_number(client_order_id: ClientOrderId) -> int:
    """Return a client_order_id as it is inside."""
    return client_order_id if isinstance(client_order_id, int) else number_of(client_order_id)


def is_text(number: int) -> bool:
    """Tell whether a client_order_id as it is inside stands for a text."""
    return number >= TEXT_BIT


def name_row(text: str, account: int, timestamp_ns: int) -> CommandRow:
    """Return the NAME (COMMAND) that comes ahead of a command with this client_order_id."""
    row = [0] * len(CommandRow._fields)
    words = _WORDS.unpack(text.encode().ljust(TEXT_BYTES, b"\0"))
    for place, word in zip(_PLACES_OF_WORDS, words, strict=True):
        row[place] = word
    row[_TYPE], row[_ACCOUNT], row[_ID] = ADMINISTRATION_NAME, account, number_of(text)
    row[_TIME] = timestamp_ns
    return CommandRow._make(row)


class RememberedTexts(dict[int, str]):
    """Texts of the orders that were read last, by their numbers in records."""

    most = 65_536

    def number(self, client_order_id: ClientOrderId) -> int:
        """Return the number of a client_order_id, and remember it where that is a text."""
        number = as_number(client_order_id)
        if isinstance(client_order_id, str):
            if len(self) >= self.most:
                self.clear()
            self[number] = client_order_id
        return number


class KnownTexts:
    """The texts that NAMEs gave, for the reports of the commands behind them.

    Those of the commands that a round of matching has come to, and of the round with any before
    it: the command that a round begins with may have begun there.
    """

    def __init__(self) -> None:
        self.words: Words = np.zeros(0, np.uint64)
        """NAMED_WORDS for each, by number."""
        self._newest: dict[int, bytes] = {}

    def note(self, commands: Records) -> bool:
        """Take the texts of the NAMEs among the commands (COMMAND) of a round; return whether there
        are any."""
        kinds = commands["command_type"]
        places = np.flatnonzero(kinds == ADMINISTRATION_NAME)
        if not len(places):
            return False
        texts = np.stack([commands[field][places] for field in _FIELDS], axis=1)
        numbers = commands["client_order_id"][places].tolist()
        next_kinds = np.append(kinds, LISTS[0])[places + 1].tolist()
        found: dict[int, bytes] = {}
        for number, words, kind in zip(numbers, texts, next_kinds, strict=True):
            found[number] = words.tobytes()
            if kind in LISTS and not number & _PLACE_BITS:
                found |= _further(number, found[number])
        known = self._newest | found
        self._newest = found
        rows = np.zeros((len(known), NAMED_WORDS), np.uint64)
        rows[:, 0] = sorted(known)
        joined = b"".join(known[number] for number in sorted(known))
        rows[:, 1:] = np.frombuffer(joined, np.uint64).reshape(-1, TEXT_WORDS)
        self.words = rows.reshape(-1)
        return True

    def find(self, number: int) -> str | None:
        """Return the text that a number stands for, None where it is not known."""
        rows = self.words.reshape(-1, NAMED_WORDS)
        place = int(np.searchsorted(rows[:, 0], np.uint64(number)))
        if place == len(rows) or int(rows[place, 0]) != number:
            return None
        return shown(rows[place, 1:].tobytes())


def shown(text: bytes) -> str | None:
    """Return a text that stands among zeros, None where nothing does."""
    return text.rstrip(b"\0").decode("ascii") or None


def _further(number: int, text: bytes) -> dict[int, bytes]:
    """Return what the second and third order of a list are called."""
    first = text.rstrip(b"\0")
    texts = {number | place: first + suffix for suffix, place in _PLACES.items()}
    return {one: (text + bytes(TEXT_BYTES))[:TEXT_BYTES] for one, text in texts.items()}
