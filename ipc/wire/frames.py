"""Frames: an 8-byte header, body length and stream (both u32, little endian), then the body."""

import struct
from collections.abc import Iterator

from msgspec import Struct

from ipc.wire.messages import encoder

HEADER = struct.Struct("<II")
HEADER_BYTES = HEADER.size


class FrameTooLongError(ValueError):
    """A header announces a body beyond the bound: the stream cannot be followed any further."""

    def __init__(self, length: int, bound: int) -> None:
        super().__init__(f"frame: body of {length} bytes, must be at most {bound}")
        self.length = length
        self.bound = bound


def frame(message: Struct, stream: int = 0) -> bytes:
    """Return one message as a frame."""
    body = encoder.encode(message)
    return HEADER.pack(len(body), stream) + body


class FrameSplitter:
    """Cuts a byte stream into frames; keeps an unfinished one for the next ``feed``.

    Memory is bounded by one frame: ``max_body`` bytes and a header, beyond what is fed at once.
    """

    def __init__(self, max_body: int) -> None:
        self.max_body = max_body
        self._rest = b""

    @property
    def pending_bytes(self) -> int:
        """Bytes kept of an unfinished frame."""
        return len(self._rest)

    def take(self, data: bytes) -> bytes:
        """Return the unfinished frame and ``data``, for another to cut; ``keep`` what is left."""
        rest, self._rest = self._rest, b""
        return rest + data if rest else data

    def keep(self, rest: bytes) -> None:
        """Keep an unfinished frame."""
        self._rest = rest

    def body_at(self, data: bytes, position: int) -> bytes | None:
        """Return the body of the frame at ``position``, None where it is not whole.

        Raises ``FrameTooLongError``.
        """
        if len(data) - position < HEADER_BYTES:
            return None
        length, _ = HEADER.unpack_from(data, position)
        if length > self.max_body:
            raise FrameTooLongError(length, self.max_body)
        start = position + HEADER_BYTES
        return data[start : start + length] if start + length <= len(data) else None

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield ``(stream, body)`` of each frame that is whole now.

        Raises ``FrameTooLongError`` at a header beyond the bound, after the frames before it.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position, end = 0, len(data)
        while end - position >= HEADER_BYTES:
            length, stream = HEADER.unpack_from(data, position)
            if length > self.max_body:
                raise FrameTooLongError(length, self.max_body)
            stop = position + HEADER_BYTES + length
            if stop > end:
                break
            yield stream, data[position + HEADER_BYTES : stop]
            position = stop
        self._rest = data[position:]
