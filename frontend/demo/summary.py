"""What a demo says at its end: what was sent, and what came of it."""

from typing import TextIO

from frontend.demo.load import Told
from ipc.vocabulary import CommandType, ExecType

_WORDS = {
    CommandType.NEW: "new orders",
    CommandType.CANCEL: "cancels",
    CommandType.REPLACE: "replaces",
    CommandType.REDUCE: "reduces",
}


def print_summary(told: Told, out: TextIO) -> None:
    """Print the counts of commands by kind, and of their answers."""
    by_type = {
        kind: sum(count for (sent, _), count in told.answers.items() if sent is kind)
        for kind in _WORDS
    }
    words = ", ".join(f"{by_type[kind]:,} {word}" for kind, word in _WORDS.items())
    accepted = told.answers[CommandType.NEW, ExecType.NEW]
    rejects = ", ".join(f"{count:,} {reason.name}" for reason, count in told.rejects.most_common())
    print(f"{told.answers.total():,} commands: {words}", file=out)
    print(f"{accepted:,} orders accepted; rejected: {rejects or 'none'}", file=out)
    print(
        f"{told.sent_again:,} commands were under way to the matcher that was killed, "
        "and sent again",
        file=out,
    )
