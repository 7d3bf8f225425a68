"""What a shard's hashes are keyed with, so that nobody can aim at them.

A secret is drawn when a shard begins (``engine.shard.recovery``), stands in the header of each
segment of its journal and in each of its snapshots, and is shown nowhere. What a shard's commands
come to does not depend on it; how long they take does, and a replay is to take as long as the first
time.
"""

import hashlib

SECRET_BITS = 128
SECRET_BYTES = SECRET_BITS // 8


def factors(secret: int, purpose: bytes, generation: int, count: int) -> list[int]:
    """Return up to eight odd 64-bit numbers to multiply keys by, for one purpose.

    They are random to who does not know the secret, also where he knows other generations.
    """
    digest = hashlib.blake2b(
        generation.to_bytes(8, "little"),
        digest_size=8 * count,
        key=secret.to_bytes(SECRET_BYTES, "little"),
        person=purpose,
    ).digest()
    return [int.from_bytes(digest[at : at + 8], "little") | 1 for at in range(0, len(digest), 8)]


def identity(secret: int) -> str:
    """Return a name of the shard that began with a secret, which does not tell it."""
    key = secret.to_bytes(SECRET_BYTES, "little")
    return hashlib.blake2b(digest_size=16, key=key, person=b"identity").hexdigest()
