"""Times as text: ISO 8601 to the nanosecond."""

import re
from datetime import UTC, datetime, timedelta

from ipc.decimals import is_whole

TIME_RULE = (
    "must be nanoseconds since the epoch, or a date from 1970 to 2261 such as 2026-11-30, "
    "2026-11-30T17:05:00.5Z or 2026-11-30T17:05:00+01:00 (in a URL + is written %2B)"
)
_FORM = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_YEAR = 2261
"""The nanoseconds of later ones have more than 63 bits."""


def nanoseconds(text: str) -> int | None:
    """Return a time in nanoseconds since the epoch, None where the text is none by ``TIME_RULE``.

    A date alone is its first moment; a time without a zone is UTC.
    """
    if is_whole(text):
        return int(text)
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    date, clock, fraction, zone = match.groups()
    if fraction and len(clock) < len("00:00:00"):
        return None
    try:
        zoned = "+00:00" if zone is None or zone in "Zz" else zone
        moment = datetime.fromisoformat(f"{date}T{clock or '00:00'}{zoned}")
        since: timedelta = moment - _EPOCH
    except (ValueError, OverflowError):
        return None
    if since < timedelta(0) or moment.year > _LAST_YEAR:
        return None
    return (since.days * 86_400 + since.seconds) * 10**9 + int((fraction or "").ljust(9, "0"))


def time_text(timestamp_ns: int) -> str:
    """Return a time since the epoch as ISO 8601 in UTC, to the nanosecond."""
    seconds, rest_ns = divmod(timestamp_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns:09d}Z"
