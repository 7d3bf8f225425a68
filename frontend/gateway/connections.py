"""The connections of a frontend, logged in or not: each has its place, and none is silent."""

from collections.abc import Iterator
from typing import Protocol

from engine.sections import FrontendSection
from frontend.gateway.door import Door, Limits, Place
from ipc.memory.status import StatusWriter


class Connection(Protocol):
    """A client's connection, as far as all connections are looked after."""

    last_seen_s: float
    """When something came over it last, by the event loop's clock."""

    def is_open(self) -> bool:
        """Return whether it is not about to end."""
        ...

    def stop_reading(self) -> None:
        """Read nothing more."""
        ...

    def close(self, code: str, text: str) -> None:
        """Say why, then close."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class Connections:
    """Those of one frontend; at most as many as have a place at its ``door``."""

    def __init__(self, config: FrontendSection, status: StatusWriter) -> None:
        self._config = config
        self._status = status
        self._connections: set[Connection] = set()
        self.door = Door(Limits.of(config), status, "refused_too_many_sessions")

    def __iter__(self) -> Iterator[Connection]:
        """Yield every connection; any may leave meanwhile."""
        return iter(list(self._connections))

    def __len__(self) -> int:
        return len(self._connections)

    def admit(self, connection: Connection, place: Place | None, host: str, now_s: float) -> Place:
        """Count a new connection, and return its place: the one that it has, or a new one.

        Raises ``CrowdedError`` where there is none for it.
        """
        place = place or self.door.enter(host, now_s)
        self._connections.add(connection)
        self._status.set("connections", len(self._connections))
        return place

    def leave(self, connection: Connection) -> None:
        """Forget a connection that is closed, if it was admitted."""
        if connection in self._connections:
            self._connections.discard(connection)
            self._status.set("connections", len(self._connections))

    def close_silent(self, now_s: float) -> None:
        """Close those over which nothing has come for ``idle_timeout_s``."""
        limit_s = self._config.idle_timeout_s
        if not limit_s:
            return
        for connection in self:
            if connection.is_open() and now_s - connection.last_seen_s > limit_s:
                self._status.add("closed_idle", 1)
                connection.close("IDLE", "nothing came within idle_timeout_s")
