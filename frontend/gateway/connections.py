"""The connections of a frontend, logged in or not: at most so many, and none that is silent."""

from collections.abc import Iterator
from typing import Protocol

from engine.config import FrontendSection
from ipc.memory.status import StatusWriter


class Connection(Protocol):
    """A client's connection, as far as all connections are looked after."""

    last_seen_s: float
    """When something came over it last, by the event loop's clock."""

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
    """Those of one frontend; at most ``max_sessions``."""

    def __init__(self, config: FrontendSection, status: StatusWriter) -> None:
        self._config = config
        self._status = status
        self._connections: set[Connection] = set()

    def __iter__(self) -> Iterator[Connection]:
        """Yield every connection; any may leave meanwhile."""
        return iter(list(self._connections))

    def __len__(self) -> int:
        return len(self._connections)

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; False where there are ``max_sessions`` already."""
        if len(self._connections) >= self._config.max_sessions:
            self._status.add("refused_too_many_sessions", 1)
            return False
        self._connections.add(connection)
        self._status.set("connections", len(self._connections))
        return True

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
            if now_s - connection.last_seen_s > limit_s:
                self._status.add("closed_idle", 1)
                connection.close("IDLE", "nothing came within idle_timeout_s")
