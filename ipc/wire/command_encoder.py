"""COMMAND records to the frames that a client sends, in compiled code: msgspec's very bytes.

Every integer is as short as it can be, as msgspec writes it, so that what a matcher reads is small.
"""

from ipc.arrays import Bytes, Integers, Records
from ipc.native.compiled import compiled
from ipc.native.unaligned import store_u32
from ipc.wire.field_codec import MAX_COMMAND_FRAME, put_command

MAX_FRAME = MAX_COMMAND_FRAME
"""Bytes that the longest frame does not exceed."""

_HEADER = 8


@compiled
def encode_commands(commands: Records, out: Bytes, ends: Integers) -> int:
    """Write the frames of commands, each ending at ``ends`` of its place; return how many bytes.

    ``out`` must have room for ``len(commands) * MAX_FRAME``.
    """
    at = 0
    for index in range(len(commands)):
        start = at
        at = put_command(out, start + _HEADER, commands[index])
        store_u32(out, start, at - start - _HEADER)
        store_u32(out, start + 4, 0)
        ends[index] = at
    return at
