"""Shardbook for programs: ``from shardbook import AsyncClient, Client, Reader``.

A program may have a folder by the name of one of the product's packages, which Python would import
in its place. Here that is an error that names it.
"""

from importlib.util import find_spec
from pathlib import Path

_ours = Path(__file__).resolve().parent / "frontend"
_found = find_spec("frontend")
_places = list(_found.submodule_search_locations or [_found.origin or ""]) if _found else []
if not any(Path(place).resolve() == _ours for place in _places):
    raise ImportError(
        f"Shardbook's package 'frontend' in {_ours.parent} is shadowed by {', '.join(_places)}: "
        "rename that, or run the program from another directory"
    )

from frontend.client import Client  # noqa: E402
from frontend.client.asynchronous import AsyncClient  # noqa: E402
from frontend.reading import Reader  # noqa: E402

__all__ = ["AsyncClient", "Client", "Reader"]
