"""Writes the manual's page on the wire protocol."""

import inspect
from collections.abc import Iterable
from enum import IntEnum

from ipc.reasons import Reason
from ipc.schema.declarations import FIELDS, FROM_CLIENT, ROWS, TO_CLIENT, Row, parsed
from ipc.vocabulary import ExecType, Liquidity, OrderType, OrdStatus, Side, TimeInForce

_HEAD = """\
# The wire protocol

Written by `python -m ipc.schema.generate` from `ipc/schema`; enough for a client in any language
with a MessagePack library. How a session goes on stands in [socket](socket.md).

**Frames.** An 8-byte header, two little-endian u32: the length of the body, and a stream number
(send 0, ignore it in answers). Then the body, one MessagePack array led by its tag. Integers may
have any width that MessagePack has. A field with `=` may be left out, at the end.

**Numbers.** Prices are ticks and quantities lots, as integers; `Welcome` says what one tick and one
lot of each instrument are. Times are nanoseconds since the epoch.
"""
_CODES: tuple[type[IntEnum], ...] = (Side, OrderType, TimeInForce, ExecType, OrdStatus, Liquidity)


def text() -> str:
    """Return the page."""
    parts = [
        _HEAD,
        "## What you send\n",
        *map(_message, FROM_CLIENT),
        "## What you get\n",
        *map(_message, TO_CLIENT),
        "## Fields\n",
        _table(
            ("field", "what it is", "codes", "REST", "FIX"),
            (
                (f"`{field.name}`", field.text, _codes(field.words), field.rest, field.fix or "")
                for field in FIELDS
            ),
        ),
        "## Codes\n",
        *(f"`{kind.__name__}`: {_codes(kind)}.\n" for kind in _CODES),
        "## Rejects\n",
        _table(
            ("code", "name", "field", "rule", "HTTP"),
            (
                (int(reason), f"`{reason.name}`", f"`{reason.field}`", reason.rule, _http(reason))
                for reason in Reason
                if reason.rule
            ),
        ),
        "## Why an order was cancelled\n",
        _table(
            ("reason", "name"),
            ((int(reason), f"`{reason.name}`") for reason in Reason if reason and not reason.rule),
        ),
    ]
    return "\n".join(parts)


def _message(row: Row) -> str:
    lead = str(row.tag) if row.tag else ""
    items = ", ".join(filter(None, (lead, *map(_item, row.fields))))
    doc = inspect.cleandoc(row.doc).replace("``", "`")
    return f"**{row.name}** `[{items}]`\n\n{doc}\n"


def _item(entry: str) -> str:
    name, kind, default = parsed(entry)
    part = kind.removeprefix("list[").rstrip("]")
    if part in ROWS and not ROWS[part].tag:
        name = f"[{part}, ...]"
    return f"{name} = {default.lower()}" if default else name


def _codes(kind: type[IntEnum] | None) -> str:
    if kind is None or kind is Reason:
        return ""
    return ", ".join(f"{int(member)} {member.name}" for member in kind)


def _http(reason: Reason) -> str:
    return f"{reason.http_status} {reason.http_code}".strip()


def _table(heads: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"
