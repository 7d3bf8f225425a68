"""COMMAND records as frames for the wire, computed with numpy: no Python object a command.

A MessagePack message whose integers are all written at full width has a constant layout, so the
frames of one kind of message are an array of fixed records: constant bytes, and big-endian fields
in between. ``ipc.messages`` defines what they mean, and the layouts are made from it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ipc.frames import HEADER_BYTES
from ipc.messages import Cancel, MassCancel, Message, NewOrder, Reduce, Replace
from ipc.vocabulary import CommandType, Flag

Records = npt.NDArray[np.void]
Places = npt.NDArray[np.int64]

_KINDS: dict[CommandType, type[Message]] = {
    CommandType.NEW: NewOrder,
    CommandType.CANCEL: Cancel,
    CommandType.REPLACE: Replace,
    CommandType.REDUCE: Reduce,
    CommandType.MASS_CANCEL: MassCancel,
}
_CODES = ("side", "order_type", "time_in_force")
_FLAGS = {"post_only": Flag.POST_ONLY, "reinsert": Flag.REINSERT}
_FIXARRAY, _UINT8, _UINT16, _UINT64, _FALSE = 0x90, 0xCC, 0xCD, 0xCF, 0xC2


def _layout(kind: type[Message]) -> tuple[np.dtype[np.void], Records]:
    """Return the record of a message in its frame, and one with all that is constant."""
    fields: list[tuple[str, str]] = [("length", "<u4"), ("stream", "<u4"), ("items", "u1")]
    fields.append(("tag", "u1"))
    marks: dict[str, int] = {}
    for name in kind.__struct_fields__:
        if name in _FLAGS:
            fields.append((name, "u1"))
            continue
        width, mark = (">u8", _UINT64)
        if name == "symbol":
            width, mark = (">u2", _UINT16)
        elif name in _CODES:
            width, mark = ("u1", _UINT8)
        marks[f"{name} mark"] = mark
        fields += [(f"{name} mark", "u1"), (name, width)]
    dtype = np.dtype(fields)
    constant = np.zeros(1, dtype)
    constant["length"] = dtype.itemsize - HEADER_BYTES
    constant["items"] = _FIXARRAY | len(kind.__struct_fields__) + 1
    constant["tag"] = kind.__struct_config__.tag
    for name, mark in marks.items():
        constant[name] = mark
    return dtype, constant


_LAYOUTS = {command_type: _layout(kind) for command_type, kind in _KINDS.items()}
_BYTES = np.zeros(max(CommandType) + 1, np.int64)
for _command_type, (_dtype, _) in _LAYOUTS.items():
    _BYTES[_command_type] = _dtype.itemsize


def command_frames(commands: Records) -> tuple[bytes, Places]:
    """Return the frames of COMMAND records, in order, and where in the bytes each one ends.

    Each must be of a type that there is.
    """
    sizes = _BYTES[commands["command_type"]]
    ends = np.cumsum(sizes)
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    for command_type, (dtype, constant) in _LAYOUTS.items():
        rows = np.flatnonzero(commands["command_type"] == command_type)
        messages = _messages(commands[rows], dtype, constant)
        places = (ends - sizes)[rows, None] + np.arange(dtype.itemsize)
        out[places] = messages.view(np.uint8).reshape(len(rows), dtype.itemsize)
    return out.tobytes(), ends


def _messages(commands: Records, dtype: np.dtype[np.void], constant: Records) -> Records:
    """Return the frames of commands that are all of one type, as records."""
    messages = np.empty(len(commands), dtype)
    messages[:] = constant
    for name in dtype.names or ():
        if name in _FLAGS:
            is_set: npt.NDArray[Any] = commands["flags"] & _FLAGS[name] != 0
            messages[name] = _FALSE + is_set
        elif name in (commands.dtype.names or ()):
            messages[name] = commands[name]
    return messages
