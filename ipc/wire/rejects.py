"""Rejects for what cannot be carried out: which field of a message breaks which rule.

A whole frame is always answered with a ``Reject`` that names field and rule; as much of the
message as can be read (its request_id and ids) is repeated so that the sender finds its request.
"""

import re
from typing import Any, NamedTuple, get_args

import msgspec
from msgspec import Struct

from ipc.bounds import MAX_CLIENT_ID, MAX_TEXT
from ipc.client_ids import is_client_text
from ipc.schema.declarations import FIELD
from ipc.vocabulary import RULES, Reason
from ipc.wire.messages import CLIENT_MESSAGES, Reject, tag_of

_TYPES: dict[int, type[Struct]] = {tag_of(kind): kind for kind in get_args(CLIENT_MESSAGES)}
_MOST_FIELDS = 1 + max(len(kind.__struct_fields__) for kind in _TYPES.values())
_NUMBER_BYTES = 9
_decode = msgspec.msgpack.decode
_pieces_of = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class Request(NamedTuple):
    """What a reject repeats of the message it answers; 0 where it could not be read."""

    command_type: int = 0
    symbol: int = 0
    request_id: int = 0
    order_id: int = 0
    client_order_id: int | str = 0


def request_of(body: bytes | memoryview) -> Request:
    """Read what can be read of a message that may be anything."""
    try:
        # What no number can be is passed over and not built: it may be deep.
        pieces = [bytes(piece) for piece in _pieces_of(body)[:_MOST_FIELDS]]
        values = [_decode(piece) if len(piece) <= _NUMBER_BYTES else None for piece in pieces]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return Request()
    if not values:
        return Request()
    kind = _TYPES.get(_number(values[0], 255))
    if kind is None:
        return Request()
    fields = dict(zip(kind.__struct_fields__, values[1:], strict=False))
    named = dict(zip(kind.__struct_fields__, pieces[1:], strict=False)).get("client_order_id", b"")
    return Request(
        _number(values[0], 255),
        _number(fields.get("symbol"), 65_535),
        _number(fields.get("request_id"), MAX_CLIENT_ID),
        _number(fields.get("order_id"), MAX_CLIENT_ID),
        _text(named) or _number(fields.get("client_order_id"), MAX_CLIENT_ID),
    )


def _text(piece: bytes) -> str:
    """Return the client_order_id in a piece of a message, nothing where it is no text."""
    head = 1 if piece[:1] <= b"\xbf" else 2
    is_text = len(piece) <= MAX_TEXT + 2 and (
        b"\xa0" <= piece[:1] <= b"\xbf" or piece[:1] == b"\xd9"
    )
    return piece[head:].decode() if is_text and is_client_text(piece[head:]) else ""


def reject(request: Request, reason: Reason, timestamp_ns: int, text: str = "") -> Reject:
    """Return the answer that a rule's own text explains, or ``text`` where it is given."""
    rule = RULES[reason]
    return _reject(request, reason, rule.field, text or rule.text, timestamp_ns)


def explain(body: bytes | memoryview, error: Exception, timestamp_ns: int) -> Reject:
    """Return the answer to a whole frame that msgspec refused with ``error``."""
    request = request_of(body)
    problem, _, where = str(error).partition(" - at `$[")
    problem = problem.replace("`", "")
    kind = _TYPES.get(request.command_type)
    if kind is None:
        if "Invalid value" in problem or where.startswith("0"):
            return reject(request, Reason.UNKNOWN_TAG, timestamp_ns)
        text = f"{RULES[Reason.INVALID_MESSAGE].text}: {problem}"
        return reject(request, Reason.INVALID_MESSAGE, timestamp_ns, text)
    names = kind.__struct_fields__
    count = _items(body)
    if count is not None and count - 1 > len(names):
        text = f"must have {len(names)} fields after the tag at the most, has {count - 1}"
        return reject(request, Reason.INVALID_MESSAGE, timestamp_ns, text)
    required = len(names) - len(kind.__struct_defaults__)
    if count is not None and count - 1 < required:
        field = names[count - 1]
        return _reject(request, _reason(field), field, "must be given", timestamp_ns)
    position = re.match(r"\d+", where)
    if position is None:
        text = f"{RULES[Reason.INVALID_MESSAGE].text}: {problem}"
        return reject(request, Reason.INVALID_MESSAGE, timestamp_ns, text)
    field = names[int(position.group()) - 1]
    return _reject(request, _reason(field), field, f"must fit: {problem}", timestamp_ns)


def _reject(request: Request, reason: Reason, field: str, text: str, timestamp_ns: int) -> Reject:
    return Reject(*request, int(reason), reason.name, field, text, timestamp_ns, 0, 0)


def _reason(field: str) -> Reason:
    row = FIELD.get(field)
    return row.reason if row and row.reason else Reason.INVALID_MESSAGE


def _number(value: Any, bound: int) -> int:
    """Return ``value`` where it is an integer from 0 to ``bound``, else 0."""
    return value if type(value) is int and 0 <= value <= bound else 0


def _items(body: bytes | memoryview) -> int | None:
    """Return the length that a MessagePack array announces."""
    lead = body[0] if len(body) else 0
    if lead & 0xF0 == 0x90:
        return lead & 0x0F
    if lead == 0xDC and len(body) >= 3:
        return int.from_bytes(body[1:3], "big")
    if lead == 0xDD and len(body) >= 5:
        return int.from_bytes(body[1:5], "big")
    return None
