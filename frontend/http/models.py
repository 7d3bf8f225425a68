"""What the shapes of all REST requests and answers share, and those of the product's state.

The OpenAPI description is made of them.

Prices and quantities are JSON numbers written as exact decimals, in the instrument's own decimal
places, or texts of the same with ``numbers=string``; times are nanoseconds since the epoch; ids
are below 2^53.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ipc.vocabulary import MAX_CLIENT_ID

MAX_ID = 2**53 - 1
Number = Annotated[
    Raw,
    Meta(
        extra_json_schema={
            "type": ["number", "string"],
            "description": "an exact decimal; a string of it with numbers=string",
        }
    ),
]
"""A decimal that is written already."""
OrderId = Annotated[int, Meta(ge=1, le=MAX_ID)]
Timestamp = Annotated[int, Meta(description="nanoseconds since the epoch")]
Word = Annotated[str, Meta(max_length=64)]
Moment = Annotated[
    int,
    Meta(
        ge=0,
        le=MAX_CLIENT_ID,
        description="nanoseconds since the epoch, or ISO 8601 such as 2026-11-30T17:05:00Z",
    ),
]
"""A time in a query: ``read_query`` has read its text."""
Numbers = Literal["number", "string"]
Source = Literal[
    "memory",
    "sqlite",
    "postgres",
    "mongodb",
    "memory, sqlite",
    "memory, postgres",
    "memory, mongodb",
    "memory, log",
]
"""Where an answer comes from, where a history is kept."""


def lowered(word: str) -> str:
    """Return a word in lower case, where it is one: other letters have ASCII ones of theirs."""
    return word.lower() if word.isascii() else word


class Query(Struct, forbid_unknown_fields=True, frozen=True):
    """Base of all query strings."""

    numbers: Numbers = "number"


class Answer(Struct, kw_only=True):
    """Base of all good answers."""

    success: bool = True
    timestamp: Timestamp = 0


class ErrorBody(Struct):
    """What went wrong: ``details`` hold the field and the rule that it breaks, where one does."""

    code: str
    message: str
    details: dict[str, Any]


class ErrorAnswer(Struct):
    """Every answer that is an error."""

    error: ErrorBody
    timestamp: Timestamp
    success: bool = False


class HistoryHealth(Struct):
    """How the exporter is, and how far it is behind: ``lag_bytes`` of finished journal."""

    state: str
    lag_commands: int
    lag_ms: int
    lag_bytes: int


class TimeAnswer(Answer, kw_only=True):
    """The clock of the product: ``timestamp`` as ISO 8601."""

    time: str


class HealthAnswer(Answer, kw_only=True):
    """This worker is alive."""

    status: Literal["healthy"]
    version: str
    uptime_s: float
    history: HistoryHealth | UnsetType = UNSET
    database: HistoryHealth | UnsetType = UNSET
    mongodb: HistoryHealth | UnsetType = UNSET


class ReadyAnswer(Answer, kw_only=True):
    """Every shard serves."""

    status: Literal["ready"]
    shards: int
