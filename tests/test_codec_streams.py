"""Any stream of bytes means the same to compiled code and to msgspec, at every edge."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.native.compiled import HAVE_NUMBA
from ipc.vocabulary import ExecType
from ipc.wire.frames import HEADER
from ipc.wire.messages import Report, tag_of
from tests.codec_checks import CHECKS, MAX_BODY, check_answers, check_delivery, check_routing
from tests.test_client_codec import answer_bodies
from tests.test_codec import bodies

pytestmark = pytest.mark.skipif(not HAVE_NUMBA, reason="numba is missing: nothing is compiled")

CORPUS = Path(__file__).with_name("codec_corpus.txt").read_text().splitlines()
"""What ``python -m bench.fuzz_codec`` has found, each line a check and a stream in hexadecimal."""


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Frames of commands, queries, answers and anything, maybe with a wrong length or cut off."""
    kind = draw(st.sampled_from([bodies(), answer_bodies(), bodies() | answer_bodies()]))
    pieces = []
    for body in draw(st.lists(kind | st.binary(max_size=20), max_size=10)):
        number = draw(st.sampled_from([3, 3, 3, 1, 2, 1023, 1 << 31 | 3, 1 << 30]))
        length = len(body)
        if draw(st.integers(0, 19)) == 0:
            length = draw(st.integers(0, 40) | st.integers(1020, 1030) | st.just(2**32 - 1))
        pieces.append(HEADER.pack(length, number) + body)
    data = b"".join(pieces)
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


@settings(max_examples=300)
@given(streams())
def test_a_stream_means_the_same_everywhere(data: bytes) -> None:
    for check in CHECKS.values():
        check(data)
    check_answers(data, asked=True)


@pytest.mark.parametrize("line", CORPUS)
def test_what_fuzzing_found(line: str) -> None:
    name, digits = line.split()
    CHECKS[name](bytes.fromhex(digits))


@pytest.mark.parametrize("body", ["9301cc0100", "93610102", "920501", "93 01 cd 01 2c"])
def test_routing_reads_the_symbol_in_any_width(body: str) -> None:
    data = bytes.fromhex(body)
    check_routing(HEADER.pack(len(data), 0) + data)


def test_a_report_that_is_cut_off_is_counted_the_same_everywhere() -> None:
    short = bytes([0xDC, 0, 25, tag_of(Report), ExecType.TRADE])
    check_delivery(HEADER.pack(len(short), 3) + short + HEADER.pack(20, 3) + bytes(20))


@pytest.mark.parametrize("length", [MAX_BODY - 1, MAX_BODY, MAX_BODY + 1, 2**32 - 1])
@pytest.mark.parametrize("check", CHECKS)
def test_the_bound_of_a_body_is_the_same_everywhere(check: str, length: int) -> None:
    CHECKS[check](HEADER.pack(length, 3) + bytes(min(length, MAX_BODY)))
