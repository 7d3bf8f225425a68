"""client_order_ids that collide where a book hashes them without a secret.

The hash is what was published: two multiplications and a shift. All of it can be undone, so each
number with the same upper half has an id that leads to it.
"""

import numpy as np
import numpy.typing as npt

_ACCOUNT_FACTOR = 0x9E3779B97F4A7C15
_SYMBOL_FACTOR = 0xC2B2AE3D27D4EB4F
_ID_FACTOR = 0xFF51AFD7ED558CCD
_MOD = 1 << 64
_MOST = np.uint64(1 << 63)


def aimed_ids(account: int, place: int, first: int, count: int) -> npt.NDArray[np.uint64]:
    """Return ``count`` ids of an account that have one hash, from the ``first`` such id on.

    ``place`` is the symbol's among those of its shard, from 0.
    """
    upper = np.uint64(0x5EED5EED << 32)
    hashed = upper | np.arange(first, first + 3 * count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        mixed = hashed * np.uint64(pow(_ACCOUNT_FACTOR, -1, _MOD))
        mixed ^= (mixed >> np.uint64(29)) ^ (mixed >> np.uint64(58))
        mixed *= np.uint64(pow(_ID_FACTOR, -1, _MOD))
    mixed ^= np.uint64(place * _SYMBOL_FACTOR % _MOD)
    mixed ^= np.uint64(account * _ACCOUNT_FACTOR % _MOD)
    return mixed[(mixed > 0) & (mixed < _MOST)][:count]
