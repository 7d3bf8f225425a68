"""The names of everything that the product keeps in Redis; ``frontend/docs/redis.md`` lists them.

All keys of a shard have its number in braces, so that a cluster keeps them on one node and a batch
is one atomic call there.
"""

VERSION = "1"
"""Of names and formats; it stands at each shard's position."""


class ShardNames:
    """The keys of one shard."""

    def __init__(self, prefix: str, shard: int) -> None:
        self.shard = shard
        self.all = f"{prefix}:{{{shard}}}:"
        """What they begin with."""
        self.position = f"{self.all}position"
        self.writer = f"{self.all}writer"
        self.ended = f"{self.all}ended"
        self.changes = f"{self.all}changes"
        self.order = f"{self.all}order:"
        """Begins the key of an order; its id follows."""

    def open_orders(self, account: int) -> str:
        """Return the key of an account's open orders."""
        return f"{self.all}open_orders:{account}"

    def user_orders(self, account: int) -> str:
        """Return the key of an account's newest orders, open and ended."""
        return f"{self.all}user_orders:{account}"

    def events(self, account: int) -> str:
        """Return the key of the stream of an account's order events."""
        return f"{self.all}events:{account}"

    def trades(self, symbol: str) -> str:
        """Return the key of the stream of a symbol's trades."""
        return f"{self.all}trades:{symbol}"

    def depth(self, symbol: str) -> str:
        """Return the key of the stream of a symbol's best levels."""
        return f"{self.all}depth:{symbol}"

    def ticker(self, symbol: str) -> str:
        """Return the key of a symbol's ticker, and the name of the channel that tells of it."""
        return f"{self.all}ticker:{symbol}"


class Names:
    """The keys that are no shard's, and those of each shard."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.instruments = f"{prefix}:instruments"
        self.users = f"{prefix}:users"
        self.accounts = f"{prefix}:accounts"

    def of(self, shard: int) -> ShardNames:
        """Return the keys of a shard."""
        return ShardNames(self._prefix, shard)
