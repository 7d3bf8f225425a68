"""A WebSocket of a node: what its operations look for is fetched before they are carried out."""

import asyncio
from contextlib import ExitStack

from frontend.http.socket_models import Op
from frontend.http.sockets import Socket
from frontend.node.reads import own_order
from frontend.node.state import NodeState
from ipc.records import shard_of


class NodeSocket(Socket):
    """A connected client."""

    async def _carry_out(self, op: Op) -> None:
        state = self._api.state
        assert isinstance(state, NodeState)
        if op.op == "subscribe" and op.channel != "orders":
            state.check()
        order_id = op.order_id if op.op in ("replace", "cancel") else None
        if order_id is not None and shard_of(order_id) in state.held:
            hold = ExitStack()
            found = await own_order(self._request(b"", order_id), op.user_id)
            hold.enter_context(state.held[shard_of(order_id)].holding(found, None, all_of=False))
            # Until it is answered: whoever is told why it was refused is told of the order.
            loop = asyncio.get_running_loop()
            loop.call_later(self._api.config.answer_timeout_s, hold.close)
        await super()._carry_out(op)
