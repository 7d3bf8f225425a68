"""The application of a node: reads wait for what its clients have seen, and answers say what they
stand for.

``Shardbook-Sequence`` names, by shard, a command that an answer stands for: ``0=17,1=4``. Sent
with a request, to any node, it asks for an answer that stands for as much; what a user was told by
this node it sees here without. A node that does not come there in time answers 503.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from frontend.http.access import Admit
from frontend.http.api import Api
from frontend.http.app import App
from frontend.http.connection import Answer, Call, Reply
from frontend.http.errors import broken_rule
from frontend.node.entry import NodeEntry
from frontend.node.reads import node_routes
from frontend.node.socket import NodeSocket
from frontend.node.state import NodeState, tokens

SEQUENCE, AGE = b"shardbook-sequence", b"shardbook-age-ms"
_READS = ("orders", "orderbook", "trades", "candles", "ticker")


class NodeApp(App):
    """Serves REST, and hands WebSockets on."""

    socket = NodeSocket

    def __init__(self, api: Api, admit: Admit, state: NodeState, entry: NodeEntry) -> None:
        super().__init__(api, admit, node_routes())
        self._state, self._entry = state, entry
        self._waiting: set[asyncio.Task[None]] = set()

    def serve(self, call: Call, reply: Reply) -> None:
        """Answer a request, at once or later."""

        def stamped(answer: Answer) -> None:
            answer.headers = (*answer.headers, *self._stamps())
            reply(answer)

        serve: Callable[[Call, Reply], None] = super().serve
        if not _reads(call):
            serve(call, stamped)
            return
        task = asyncio.get_running_loop().create_task(self._serve_later(call, stamped, serve))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _serve_later(
        self, call: Call, reply: Reply, serve: Callable[[Call, Reply], None]
    ) -> None:
        try:
            self._state.check()
            await self._state.reach(self._wanted(call))
        except Exception as error:
            reply(self._bad(error))
            return
        serve(call, reply)

    def _wanted(self, call: Call) -> dict[int, int]:
        """Return by shard the command that an answer is to stand for."""
        user_id = None
        if self._keyed:
            user_id = self._api.authenticate(call.headers)
        elif call.query:
            named = dict(parse_qsl(call.query.decode("latin-1")))
            user_id = named.get("user_id")
        wanted = dict(self._entry.seen_by(user_id))
        for name, value in call.headers:
            if name == SEQUENCE:
                for shard, sequence in self._token(value).items():
                    wanted[shard] = max(sequence, wanted.get(shard, 0))
        return wanted

    def _token(self, value: bytes) -> dict[int, int]:
        try:
            return tokens(value.decode("ascii"), self._state.pictures)
        except ValueError:
            rule = "must be that of an answer"
            raise broken_rule("Shardbook-Sequence", rule, "INVALID_REQUEST") from None

    def _stamps(self) -> Any:
        pictures = self._state.pictures
        seen = self._entry.seen
        parts = (f"{n}={max(p.position, seen.get(n, 0))}" for n, p in pictures.items())
        age_ms = int(1_000 * max((p.age_s for p in pictures.values()), default=0.0))
        return (SEQUENCE, ",".join(parts).encode()), (AGE, b"%d" % age_ms)


def _reads(call: Call) -> bool:
    """Return whether a request is for what is read in Redis."""
    reading = call.method in ("GET", "HEAD")
    return reading and any(part in _READS for part in call.path.split("/")[1:4])
