"""The port for whoever trades here: what a gateway asks of a session, whatever language it speaks.

A front end makes one for each trader and gives it to ``Sessions.log_in``; ``enter`` or ``close``
follows. From ``enter`` on its commands go by ``AccountChannel.forward``, those for every shard by
``Gateway.cancel_everywhere``, and what comes of them is delivered. ``Sessions.leave`` ends it.
"""

from typing import Protocol


class Session(Protocol):
    """One trader at a gateway. All methods are called in the event loop's thread, none may wait."""

    session: int
    """Its number; 0 before ``enter``."""
    stream: int
    """The number of its account's channel, which the gateway writes; 0 before the log-in."""
    cancel_on_disconnect: bool
    """Whether the account's orders are cancelled once the last such session has left; the gateway
    writes it."""
    routed_bytes: int
    """How many bytes of frames it has sent on, or had refused, since it began."""
    sent_bytes_at_loss: dict[int, int]
    """By shard, how much that was when its matcher was lost last; the gateway writes it."""

    def enter(self, session: int, welcome: bytes, missed: bytes) -> None:
        """Be a session from now on; both are frames: the ``Welcome``, and what was missed."""
        ...

    def deliver(self, data: bytes | memoryview) -> None:
        """Take whole frames of the account: reports, rejects and answers, in their order."""
        ...

    def deliver_missed(self, data: bytes) -> None:
        """Take whole frames that may be many through no fault of who reads them."""
        ...

    def stop_reading(self) -> None:
        """Hold back: send nothing more until ``resume_reading`` was called as often as this."""
        ...

    def resume_reading(self) -> None:
        """Take back one ``stop_reading``."""
        ...

    def close(self, code: str, text: str) -> None:
        """End, or do not begin, for a reason."""
        ...
