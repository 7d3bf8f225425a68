"""Times in text: exact to the nanosecond, and nothing else is one."""

import pytest

from frontend.times import nanoseconds, time_text

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1796051100000000001", 1_796_051_100_000_000_001),
        ("1970-01-01", 0),
        ("1970-01-02", 86_400 * SECOND),
        ("1970-01-01T00:01", 60 * SECOND),
        ("1970-01-01T00:00:01", SECOND),
        ("1970-01-01T00:00:01Z", SECOND),
        ("1970-01-01t00:00:01z", SECOND),
        ("1970-01-01T00:00:01.000000001Z", SECOND + 1),
        ("1970-01-01T00:00:01.5Z", SECOND + SECOND // 2),
        ("1970-01-01T01:00:01+01:00", SECOND),
        ("1970-01-01T00:00:01.123456789-00:30", 1_801_123_456_789),
        ("2261-12-31T23:59:59.999999999Z", 9_214_646_399_999_999_999),
    ],
)
def test_a_time_is_read_exactly(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "-1",
        "1.5",
        "1e9",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+01:00",
        "2262-01-01",
        "2026-13-01",
        "2026-02-29",
        "2026-11-30T24:01",
        "2026-11-30T17",
        "2026-11-30T17:05.5",
        "2026-11-30T17:05:00.",
        "2026-11-30T17:05:00.0000000001",
        "2026-11-30T17:05:00 01:00",
        "2026-11-30 17:05:00",
        "2026-11-30Z",
        "20261130T170500Z",
        "\uff12026-11-30",
        "2026-11-30\n",
    ],
)
def test_what_is_no_time_is_none(text: str) -> None:
    assert nanoseconds(text) is None


@pytest.mark.parametrize("time_ns", [0, 1, 1_796_051_100_123_456_789, 9_214_646_399_999_999_999])
def test_what_is_written_is_read_again(time_ns: int) -> None:
    assert nanoseconds(time_text(time_ns)) == time_ns
