"""API keys: which user a key stands for. The configuration holds their SHA-256 alone.

A key is 32 random bytes, so one round of a fast hash is enough: there is nothing to guess.
"""

import hashlib
import secrets
from collections.abc import Iterable

from engine.sections import KeySection


class Keys:
    """The configured keys. Without any, everyone is taken at their word."""

    def __init__(self, sections: Iterable[KeySection]) -> None:
        self._users = {section.sha256: section.user_id for section in sections}

    def __bool__(self) -> bool:
        return bool(self._users)

    def user_of(self, key: bytes) -> str | None:
        """Return the user of a key, None where it is none.

        How long it takes tells at most about the digest, which nobody can steer.
        """
        return self._users.get(digest_of(key))

    def admits(self, user_id: str, key: str) -> bool:
        """Return whether a key lets someone in as ``user_id``."""
        return not self._users or self.user_of(key.encode()) == user_id


def digest_of(key: bytes) -> str:
    """Return what the configuration holds of a key."""
    return hashlib.sha256(key).hexdigest()


def new_key() -> str:
    """Return a new key."""
    return secrets.token_urlsafe(32)


def key_section(user_id: str, key: str) -> str:
    """Return the part of a configuration file that makes a key known."""
    return f'[[keys]]\nuser_id = "{user_id}"\nsha256 = "{digest_of(key.encode())}"'
