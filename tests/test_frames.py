"""Frames: any cut of the stream gives the same frames, and a long one is refused at its header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.wire.frames import HEADER, FrameSplitter, FrameTooLongError, frame
from ipc.wire.messages import Ping, client_decoder


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=40))), st.data())
def test_any_cut_gives_the_same_frames(frames: list[tuple[int, bytes]], data) -> None:
    stream = b"".join(HEADER.pack(len(body), number) + body for number, body in frames)
    splitter, found, position = FrameSplitter(40), [], 0
    while position < len(stream):
        size = data.draw(st.integers(1, len(stream) - position))
        found += splitter.feed(stream[position : position + size])
        position += size
    assert found == frames
    assert splitter.pending_bytes == 0


def test_frames_before_a_long_one_are_given_and_then_it_is_refused() -> None:
    frames = FrameSplitter(10).feed(HEADER.pack(2, 7) + b"ab" + HEADER.pack(11, 0))
    assert next(frames) == (7, b"ab")
    with pytest.raises(FrameTooLongError, match="body of 11 bytes, must be at most 10"):
        next(frames)


def test_frame_holds_the_message_and_its_stream() -> None:
    ((stream, body),) = FrameSplitter(100).feed(frame(Ping(5), 3))
    assert stream == 3
    assert client_decoder.decode(body).request_id == 5
