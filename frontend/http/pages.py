"""Where the next page begins, as text: by shard the sequence that all of its rows are below."""

import re
from collections.abc import Iterable, Mapping

from frontend.http.errors import broken_rule

BEYOND = 10**13
"""Above every sequence."""
_SEQUENCES = re.compile(r"\d{1,14}(?:\.\d{1,14}){0,255}", re.ASCII)
CURSOR_RULE = "must be the next of an answer to the same question"


def written(below: Iterable[int]) -> str:
    """Return the text for sequences, one a shard."""
    return ".".join(str(min(sequence, BEYOND)) for sequence in below)


def read(text: str, shards: Iterable[int]) -> dict[int, int]:
    """Return the sequences by shard. Raises ``ApiError``."""
    sequences = text.split(".") if _SEQUENCES.fullmatch(text) else []
    wanted = list(shards)
    if len(sequences) != len(wanted):
        raise broken_rule("cursor", CURSOR_RULE)
    return dict(zip(wanted, map(int, sequences), strict=True))


def lowered(below: Mapping[int, int], sequences: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return the sequences for the page behind rows, given as shard and sequence."""
    lower = dict(below)
    for shard, sequence in sequences:
        lower[shard] = min(lower[shard], sequence)
    return lower
