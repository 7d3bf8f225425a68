"""The client library: ``Client`` blocks, ``AsyncClient`` awaits; loaded when asked for."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frontend.client.asynchronous import AsyncClient
    from frontend.client.blocking import Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    if name == "Client":
        from frontend.client.blocking import Client

        return Client
    if name == "AsyncClient":
        from frontend.client.asynchronous import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
