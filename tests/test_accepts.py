"""Those who come at once are let in together, and not one in a turn of the event loop."""

import asyncio
import socket

import uvloop

from frontend.gateway.door import ACCEPTS_A_TURN, handles

COUNT = 20 * ACCEPTS_A_TURN


class Let(asyncio.Protocol):
    """One who is let in."""

    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Let.count += 1
        transport.close()


def test_many_are_accepted_in_a_turn() -> None:
    async def turns() -> int:
        loop = asyncio.get_running_loop()
        sock = socket.create_server(("127.0.0.1", 0), backlog=COUNT)
        options = {"backlog": COUNT}
        servers = [await loop.create_server(Let, sock=s, **options) for s in handles(sock)]
        clients = [socket.create_connection(sock.getsockname()) for _ in range(COUNT)]
        count = 0
        while Let.count < COUNT:
            await asyncio.sleep(0)
            count += 1
        for one in (*clients, *servers):
            one.close()
        return count

    assert uvloop.run(turns()) <= COUNT // ACCEPTS_A_TURN + 5
