"""The lists of users: which account is which user id, as frontends write it down for good.

A list holds one JSON object a line, ``{"account": N, "user_id": "text"}``, and is only ever
appended to. A line that says what no frontend writes is passed over.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from ipc.records import account_of
from ipc.wire.messages import UserId

MAX_LINE_BYTES = 1_024
"""No line is longer: 40 bytes, a digest of 20, and 64 characters of up to 12 bytes each."""


class AccountLine(msgspec.Struct):
    """One line of the file."""

    account: int
    user_id: UserId


_decoder = msgspec.json.Decoder(AccountLine)


def read_accounts(path: Path, offset: int) -> Iterator[tuple[AccountLine | None, int]]:
    """Yield the whole lines of a file from an offset on, None for a wrong one, and where they end.

    Raises ``OSError``.
    """
    with path.open("rb") as source:
        source.seek(offset)
        whole = True
        while line := source.readline(MAX_LINE_BYTES):
            offset += len(line)
            ended = line.endswith(b"\n")
            if ended:
                yield _entry(line) if whole else None, offset
            whole = ended


def _entry(line: bytes) -> AccountLine | None:
    try:
        entry = _decoder.decode(line)
        return entry if account_of(entry.user_id) == entry.account else None
    except (msgspec.DecodeError, UnicodeError):
        return None
