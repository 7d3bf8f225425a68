"""One shard's place in Redis: who may write there, and how far it is.

A batch is one call of a script. It looks first whether the writer still holds its lease, and
whether Redis is exactly where the batch goes on from; only then is anything written, the new
position with it. So a batch that is sent twice is carried out once, and two writers cannot mix.
"""

import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import msgspec
import redis
from redis.exceptions import NoScriptError, ResponseError

from engine.cache.batch import TICKER_FIELDS, Commands, late_ms
from engine.cache.link import CacheAwayError, CacheError, judged
from engine.cache.names import VERSION, ShardNames

LEASE_MS = 10_000
"""How long a writer that says nothing keeps others away."""
FILLING = "filling"
"""The state of a shard that is being written from the beginning: nobody should read it."""
READY = "ready"
REMOVED_AT_ONCE = 1_000
_SPOILED = ("WRONGTYPE", "ID specified in XADD")
_HELD, _ELSEWHERE = "held", "elsewhere"
_packed = msgspec.msgpack.Encoder().encode
"""Commands as one argument, which a script takes apart sooner than Redis takes as many. It knows
texts and numbers, but no bytes."""
_SCRIPT = """
local writer = redis.call('GET', KEYS[2])
if writer ~= ARGV[1] then
  if writer then return 'held' end
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
end
local at = redis.call('HMGET', KEYS[1], 'state', 'position')
if (at[1] or '') ~= ARGV[3] or (at[2] or '') ~= ARGV[4] then return 'elsewhere' end
local commands = cmsgpack.unpack(ARGV[6])
local i, last = 1, #commands
while i <= last do
  local n = commands[i]
  redis.call(unpack(commands, i + 1, i + n))
  i = i + n + 1
end
local over = redis.call('LLEN', KEYS[3]) - tonumber(ARGV[5])
while over > 0 do
  local some = math.min(over, 1000)
  for _, id in ipairs(redis.call('LPOP', KEYS[3], some)) do
    redis.call('UNLINK', KEYS[4] .. id)
  end
  over = over - some
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 'done'
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
"""
_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
"""


def _as_sent(command: Iterable[str | int | bytes]) -> bytes:
    """Return a command as it goes to Redis; with a large argument sooner than hiredis does it."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    texts = (b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"".join((b"*%d\r\n" % len(parts), *texts))


class Position(NamedTuple):
    """How far a shard is in Redis, and of which journal it is."""

    identity: str
    """Of the shard's journal: see ``engine.books.secret``."""
    state: str
    position: int
    """The last command whose outcome is there."""
    orders: int
    """The sequence number of the last order that the commands up to it have given."""
    trades: int
    reports: int
    timestamp_ns: int
    """When the last of them came."""


class MovedError(Exception):
    """Redis is not where this writer left it: emptied, or another server leads."""


class SpoiledError(MovedError):
    """A batch was broken off in its midst, for somebody else has written: nothing there counts."""


class ShardStore:
    """Writes one shard. Every method raises ``CacheAwayError`` where it can be tried again, and
    ``CacheError`` where that is of no use."""

    def __init__(
        self, client: "redis.Redis", names: ShardNames, where: str, ended_orders: int
    ) -> None:
        self.names, self.where = names, where
        self._client: Any = client
        self._ended_orders = ended_orders
        self._token = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(8).hex()}"
        self._script = client.register_script(_SCRIPT)
        self._connection: Any = None
        """For what is sent while the next is prepared."""
        self._keys = [names.position, names.writer, names.ended, names.order]

    def take(self) -> bool:
        """Take the lease; return whether it is ours now."""
        with judged(self.where):
            if self._client.set(self.names.writer, self._token, nx=True, px=LEASE_MS):
                return True
            if self.holder() != self._token:
                return False
        self.renew()
        return True

    def holder(self) -> str:
        """Return who has the lease: host, process and a number of its own."""
        with judged(self.where):
            found = self._client.get(self.names.writer)
        return "" if found is None else found.decode(errors="replace")

    def verify(self, at: Position) -> None:
        """Keep the lease while there is nothing to write.

        Raises ``MovedError`` where Redis is not at a position.
        """
        caught_up = Commands()
        caught_up.add("HSET", self.names.position, "late_ms", "0")
        self._run(at.state, str(at.position), caught_up)

    def last_trade(self, symbol: str) -> tuple[str, str, int] | None:
        """Return price, quantity and number of a symbol's last trade, None where none is known."""
        with judged(self.where):
            found = self._client.hmget(self.names.ticker(symbol), *TICKER_FIELDS[-3:])
        price, quantity, trade_id = ((value or b"").decode() for value in found)
        return (price, quantity, int(trade_id)) if trade_id else None

    def renew(self) -> None:
        """Keep the lease during what takes long."""
        with judged(self.where):
            self._client.eval(_RENEW, 1, self.names.writer, self._token, LEASE_MS)

    def release(self) -> None:
        """Let go of the lease."""
        with judged(self.where):
            self._client.eval(_RELEASE, 1, self.names.writer, self._token)

    def position(self) -> Position | None:
        """Return how far the shard is; None where Redis has nothing of it.

        Raises ``CacheError`` where what it has is of another version.
        """
        with judged(self.where):
            found = self._client.hgetall(self.names.position)
        if not found:
            return None
        fields = {name.decode(): value.decode(errors="replace") for name, value in found.items()}
        if fields.get("version") != VERSION:
            raise CacheError(
                f"{self.where}: {self.names.position} is of version {fields.get('version')}, this "
                f"product writes version {VERSION}; give redis.prefix another name, or remove the "
                "keys that begin with it"
            )
        numbers = (int(fields[name]) for name in Position._fields[2:])
        return Position(fields["identity"], fields["state"], *numbers)

    def begin(self, identity: str) -> Position:
        """Remove all that there is of the shard, and return where to fill it from."""
        begun = Position(identity, FILLING, 0, 0, 0, 0, 0)
        with judged(self.where):
            there = self._client.hmget(self.names.position, "state", "position")
            before = [(value or b"").decode() for value in there]
        self._run(before[0], before[1], self._move_to(begun))
        pattern = f"{self.names.all}*"
        kept = {self.names.position.encode(), self.names.writer.encode()}
        with judged(self.where):
            cursor = None
            while cursor != 0:
                cursor, keys = self._client.scan(cursor or 0, pattern, REMOVED_AT_ONCE)
                gone = [key for key in keys if key not in kept]
                if gone:
                    self._client.unlink(*gone)
                self.renew()
        return begun

    def write(self, before: Position, after: Position, commands: Commands) -> None:
        """Carry commands out, and go from one position to another, as one.

        Raises ``MovedError`` where Redis is neither at the one nor, of a time before, at the other.
        """
        try:
            both = Commands([*commands, *self._move_to(after)])
            self._run(before.state, str(before.position), both)
        except MovedError:
            if before == after or self.position() != after:
                raise  # else it was carried out, and the answer was lost

    def send(self, before: Position, after: Position, commands: Commands) -> None:
        """Begin what ``write`` does; ``receive`` ends it. Nothing else is sent meanwhile."""
        head = (self._token, LEASE_MS, before.state, before.position, self._ended_orders)
        both = _packed([*commands, *self._move_to(after)])
        call: list[str | int | bytes] = ["EVALSHA", self._script.sha, len(self._keys)]
        call += (*self._keys, *head, both)
        with judged(self.where):
            if self._connection is None:
                self._connection = self._client.connection_pool.get_connection()
            self._connection.send_packed_command([_as_sent(call)])

    def receive(self, before: Position, after: Position, commands: Commands) -> None:
        """End what ``send`` has begun with the same. Raises as ``write`` does."""
        with judged(self.where):
            try:
                said = self._judged_answer(self._connection.read_response)
            except NoScriptError:  # it is another server, or was made new
                said = b""
        if said:
            self._take_answer(said.decode())
        else:
            self.write(before, after, commands)

    def abandon(self) -> None:
        """Forget what was sent, and may come about or not."""
        if self._connection is not None:
            self._connection.disconnect()

    def _move_to(self, position: Position) -> Commands:
        commands, fields = Commands(), list[str](("version", VERSION))
        fields += ("late_ms", str(late_ms(position.timestamp_ns)))
        for name, value in zip(Position._fields, position, strict=True):
            fields += (name, str(value))
        commands.add("HSET", self.names.position, *fields)
        return commands

    def _run(self, state: str, position: str, commands: Commands) -> None:
        head = (self._token, LEASE_MS, state, position, self._ended_orders)
        run = partial(self._script, keys=self._keys, args=(*head, _packed(commands)))
        with judged(self.where):
            try:
                said = self._judged_answer(run)
            except NoScriptError as error:
                raise CacheAwayError(f"{self.where}: {error}") from None
        self._take_answer(said.decode())

    def _judged_answer(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except NoScriptError:
            raise
        except ResponseError as error:
            if any(word in str(error) for word in _SPOILED):
                raise SpoiledError(f"{self.where}: {error}") from None
            raise

    def _take_answer(self, said: str) -> None:
        if said == _HELD:
            raise CacheError(
                f"{self.where}: another exporter writes shard {self.names.shard}: {self.holder()}"
            )
        if said == _ELSEWHERE:
            raise MovedError(f"{self.where}: shard {self.names.shard} is not where it was left")
