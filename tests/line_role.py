"""A front end that is no part of the product: orders as lines of text.

What a front end takes: a ``Session``, and a role that opens a gateway for it. A line is
``login USER``, ``buy SYMBOL PRICE QUANTITY``, ``sell ...``, ``cancel SYMBOL ORDER_ID``, or
``cancel_all``, in the numbers of the wire; what comes back is a line for each message.
"""

import asyncio
import itertools
import os
import time
from typing import cast

from engine.children import FINISH
from engine.plan import Plan
from engine.process import Wakeup
from engine.roles import Role
from frontend.gateway.account_channel import AccountChannel
from frontend.gateway.gateway import Gateway
from frontend.gateway.linked_gateway import close_links, open_hall
from frontend.gateway.session import Session
from frontend.roles import FRONTEND
from ipc.links.sockets import Address
from ipc.memory.status import StatusWriter
from ipc.vocabulary import CommandType, OrderType, Side, TimeInForce
from ipc.wire.frames import FrameSplitter, frame
from ipc.wire.messages import (
    MAX_BODY,
    Cancel,
    Login,
    MassCancel,
    MassCancelReport,
    NewOrder,
    Reject,
    Report,
    ShardRestarted,
    Welcome,
    server_decoder,
)
from ipc.wire.rejects import Request, reject


def address_of(plan: Plan) -> Address:
    """Return where lines are taken."""
    return Address(path=str(plan.run_dir / "lines.sock"))


class LineSession(asyncio.Protocol, Session):
    """One connection."""

    def __init__(self, gateway: Gateway) -> None:
        self.session = self.stream = self.routed_bytes = 0
        self.cancel_on_disconnect = False
        self.sent_bytes_at_loss: dict[int, int] = {}
        self._gateway = gateway
        self._account: AccountChannel | None = None
        self._holds = 0
        self._lines: list[str] = []
        self._rest = ""
        self._requests = itertools.count(1)
        self._frames = FrameSplitter(MAX_BODY)

    # A connection of asyncio --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for what it says."""
        self.transport = cast(asyncio.Transport, transport)
        SESSIONS.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Leave."""
        SESSIONS.discard(self)
        self._gateway.sessions.leave(self)

    def data_received(self, data: bytes) -> None:
        """Carry out whole lines, while nothing holds it back."""
        *lines, self._rest = (self._rest + data.decode()).split("\n")
        self._lines += lines
        self._go_on()

    # The port -----------------------------------------------------------------------------------

    def enter(self, session: int, welcome: bytes, missed: bytes) -> None:
        """Be a session from now on."""
        self.session = session
        self._account = self._gateway.channel_of(self)
        self.deliver(welcome + missed)
        self.resume_reading()

    def deliver(self, data: bytes | memoryview) -> None:
        """Say each message in a line."""
        for _, body in self._frames.feed(bytes(data)):
            self._say(_line(server_decoder.decode(body)))

    def deliver_missed(self, data: bytes) -> None:
        """Do the same."""
        self.deliver(data)

    def stop_reading(self) -> None:
        """Carry out no further line."""
        self._holds += 1
        self._say("held")

    def resume_reading(self) -> None:
        """Go on with those that are here, in their order."""
        self._holds -= 1
        self._go_on()

    def close(self, code: str, text: str) -> None:
        """Say why, and close."""
        self._say(f"closing {code}")
        self.transport.close()

    # Lines --------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        while self._lines and not self._holds:
            self._carry_out(self._lines.pop(0).split())

    def _carry_out(self, words: list[str]) -> None:
        word, rest = words[0], words[1:]
        if word == "login":
            self._holds += 1  # until it has entered
            self._gateway.sessions.log_in(self, Login(rest[0], [], len(rest) > 1))
            return
        request = next(self._requests)
        if word == "cancel_all":
            self._gateway.cancel_everywhere(self, MassCancel(0, request))
        elif word == "cancel":
            symbol, order_id = map(int, rest)
            self._send(Cancel(symbol, request, order_id))
        else:
            symbol, price, quantity = map(int, rest)
            side, kind, time_in_force = Side[word.upper()], OrderType.LIMIT, TimeInForce.GTC
            self._send(NewOrder(symbol, request, 0, side, kind, time_in_force, price, quantity))

    def _send(self, command: NewOrder | Cancel) -> None:
        assert self._account is not None
        data = frame(command, self.stream)
        self.routed_bytes += len(data)
        link = self._gateway.router.by_symbol(command.symbol)
        assert link is not None, "no such symbol"
        refusal = self._account.forward(link, data, 1)
        if refusal is not None:
            kind = CommandType.NEW if isinstance(command, NewOrder) else CommandType.CANCEL
            asked = Request(kind, command.symbol, command.request_id)
            self.deliver(frame(reject(asked, refusal, time.time_ns())))

    def _say(self, line: str) -> None:
        if not self.transport.is_closing():
            self.transport.write(f"{line}\n".encode())


SESSIONS: set[LineSession] = set()
"""Of this process."""


def _line(message: object) -> str:
    match message:
        case Welcome():
            return f"welcome {message.user_id} {message.session}"
        case Report():
            return (
                f"report {message.request_id} {message.exec_type} {message.order_id} "
                f"{message.cum_qty} {message.leaves_qty}"
            )
        case Reject():
            return f"reject {message.request_id} {message.code_name}"
        case MassCancelReport():
            return f"cancelled {message.request_id} {message.canceled_orders}"
        case ShardRestarted():
            return f"restarted {message.sent_bytes}"
    raise AssertionError(message)


def run(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Serve lines until told to stop."""
    asyncio.run(_serve(plan, status, wakeup))


async def _serve(plan: Plan, status: StatusWriter, wakeup: Wakeup) -> None:
    gateway = await open_hall(plan, wakeup.gateway, status, query_workers=0)
    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    path = address_of(plan).path
    if os.path.exists(path):
        os.unlink(path)
    server = await loop.create_unix_server(lambda: LineSession(gateway), path)
    loop.add_signal_handler(FINISH, woken.set)
    loop.add_reader(wakeup.fileno(), woken.set)
    status.ready()
    await woken.wait()
    loop.remove_reader(wakeup.fileno())
    server.close()
    await close_links(gateway)
    for session in list(SESSIONS):
        session.close("SHUTTING_DOWN", "the engine is stopping")
    while SESSIONS:
        await asyncio.sleep(0.01)


LINES = Role(
    "lines",
    "tests.line_role:run",
    start=45,
    stop=15,
    enters_orders=True,
    counts=FRONTEND.counts,
    gauges=FRONTEND.gauges,
)
