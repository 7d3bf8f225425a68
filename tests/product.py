"""A running product for tests: real processes, sockets and shared memory."""

import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from engine.config import Config, parse_config
from engine.plan import Plan
from frontend.launch import running_engine
from ipc.links.sockets import Address, connect
from ipc.wire.frames import FrameSplitter, frame
from ipc.wire.messages import MAX_BODY, Closing, Login, Message, Welcome, server_decoder
from tests.fork_server import shared_fork_server

SYMBOLS = ["AA", "BB", "CC", "DD", "EE", "FF", "GG", "HH"]
WAIT_S = 60.0
UNTIL_S = 90.0


def config_text(matchers: int = 2, symbols: int = 4, extra: str = "", engine: str = "") -> str:
    """Return a configuration of ``symbols`` instruments.

    ``extra`` adds sections before them, ``engine`` lines to ``[engine]``.
    """
    instruments = "".join(
        f'[[instruments]]\nsymbol = "{symbol}"\ntick_size = "0.01"\n'
        for symbol in SYMBOLS[:symbols]
    )
    return f"{extra}\n[engine]\nmatchers = {matchers}\npin = false\n{engine}\n{instruments}"


def make_config(matchers: int = 2, symbols: int = 4, extra: str = "", engine: str = "") -> Config:
    """Return the parsed form of ``config_text``."""
    return parse_config(config_text(matchers, symbols, extra, engine), "test")


@contextmanager
def running(config: Config, directory: Path | None = None) -> Iterator[Plan]:
    """Run a product; without ``directory`` in a temporary one, short as socket paths must be."""
    with ExitStack() as stack:
        if directory is None:
            directory = Path(stack.enter_context(TemporaryDirectory(prefix="sb-")))
        yield stack.enter_context(running_engine(config, directory, context=shared_fork_server()))


@pytest.fixture(scope="module")
def product() -> Iterator[Plan]:
    """A product of two matchers and four symbols that the tests of a module share."""
    with running(make_config()) as plan:
        yield plan


class Wire:
    """A client that speaks frames and nothing else: for what a client library would never send."""

    def __init__(
        self,
        plan: Plan,
        user_id: str | None = None,
        address: Address | None = None,
        resume: Sequence[int] = (),
        cancel_on_disconnect: bool = False,
    ) -> None:
        self.sock = connect(address or plan.addresses()[0], WAIT_S)
        self._splitter = FrameSplitter(MAX_BODY)
        self._waiting: list[Message] = []
        self.welcome: Welcome | None = None
        if user_id is not None:
            self.log_in(user_id, resume, cancel_on_disconnect)
            answer = self.receive()
            assert isinstance(answer, Welcome), answer
            self.welcome = answer

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def log_in(
        self, user_id: str, resume: Sequence[int] = (), cancel_on_disconnect: bool = False
    ) -> None:
        """Send a login, and await nothing."""
        self.send(Login(user_id, list(resume), cancel_on_disconnect))

    @property
    def has_message(self) -> bool:
        """Whether ``receive`` would return at once, or at least has something to look at."""
        return bool(self._waiting or select.select([self.sock], [], [], 0)[0])

    def send(self, *messages: Message) -> None:
        """Send messages, each in a frame."""
        self.send_bytes(b"".join(frame(message) for message in messages))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def receive(self) -> Message:
        """Return the next message; raises EOFError when the connection is closed."""
        while not self._waiting:
            data = self.sock.recv(1 << 16)
            if not data:
                raise EOFError
            self._waiting += [server_decoder.decode(body) for _, body in self._splitter.feed(data)]
        return self._waiting.pop(0)

    def until(self, wanted: Callable[[Message], bool]) -> list[Message]:
        """Return what comes, up to and with the first message that is wanted."""
        found = [self.receive()]
        while not wanted(found[-1]):
            found.append(self.receive())
        return found

    def closing(self) -> Closing:
        """Return the reason that the server closes with, and see it close."""
        *_, last = self.until(lambda message: isinstance(message, Closing))
        assert isinstance(last, Closing)
        with pytest.raises((EOFError, ConnectionResetError)):
            self.receive()
        return last


@pytest.fixture
def wires(product: Plan) -> Iterator[Callable[[str], Wire]]:
    """Open logged-in connections that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda user_id: stack.enter_context(Wire(product, user_id))


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, but not for ever: well within the time limit of a test."""
    deadline = time.monotonic() + UNTIL_S
    while not condition():
        assert time.monotonic() < deadline, f"this has not come true within {UNTIL_S:.0f} s"
        select.select([], [], [], 0.005)


def refused(plan: Plan) -> bool:
    """Return whether nobody listens at the order-entry address any more."""
    try:
        connect(plan.addresses()[0], WAIT_S).close()
    except (TimeoutError, FileNotFoundError, ConnectionRefusedError):
        return True
    return False
