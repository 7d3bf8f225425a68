"""A running product with HTTP workers for tests, and a client of theirs on a bare connection."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from engine.plan import Plan
from tests.product import make_config, running

API = "/api/v1"
WAIT_S = 60.0


class Reply(NamedTuple):
    """One answer: numbers are exact decimals, as they were written."""

    status: int
    body: Any
    headers: dict[str, str]
    raw: bytes

    @property
    def code(self) -> str:
        """The code of an error."""
        code: str = self.body["error"]["code"]
        return code


class Http:
    """One keep-alive connection to one of the workers."""

    def __init__(self, plan: Plan, headers: dict[str, str] | None = None) -> None:
        address = plan.http_address
        assert address is not None
        self.headers = headers or {}
        self.connection = http.client.HTTPConnection(address.host, address.port, timeout=WAIT_S)

    def __enter__(self) -> "Http":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Send a request (``body`` as JSON, bytes as they are) and return its answer."""
        data = body if isinstance(body, bytes | None) else json.dumps(body, default=_written)
        plain = {} if data is None else {"Content-Type": "application/json"}
        self.connection.request(method, path, data, plain | self.headers | headers)
        response = self.connection.getresponse()
        raw = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        content = raw
        if raw and found.get("content-type") == "application/json":
            content = json.loads(raw, parse_float=Decimal)
        return Reply(response.status, content, found, raw)

    def get(self, path: str) -> Any:
        """Return the body of a good answer."""
        return self._good("GET", path)

    def post(self, path: str, body: Any) -> Any:
        """Return the body of a good answer."""
        return self._good("POST", path, body)

    def order(self, user_id: str, side: str, quantity: Any, price: Any = None, **more: Any) -> Any:
        """Enter an order and return what became of it."""
        order = {"user_id": user_id, "side": side, "quantity": quantity, **more}
        order.setdefault("order_type", "market" if price is None else "limit")
        if price is not None:
            order["price"] = price
        return self.post(f"{API}/orders", order)

    def _good(self, method: str, path: str, body: Any = None) -> Any:
        reply = self.call(method, path, body)
        assert reply.status == 200, (reply.status, reply.body)
        assert reply.body["success"] is True
        assert reply.body["timestamp"] > 10**18
        return reply.body


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def http_section(port: int, workers: int = 2, extra: str = "") -> str:
    """Return the section of a configuration that serves HTTP on a port."""
    return f'[http]\naddress = "127.0.0.1:{port}"\nworkers = {workers}\n{extra}\n'


@contextmanager
def serving(
    workers: int = 2,
    extra: str = "",
    before: str = "",
    directory: Path | None = None,
    matchers: int = 2,
) -> Iterator[Plan]:
    """Run a product with HTTP workers; ``extra`` adds to ``[http]``, ``before`` comes before."""
    text = before + http_section(free_port(), workers, extra)
    with running(make_config(matchers, 4, text), directory) as plan:
        yield plan


def _written(value: Any) -> Any:
    raise TypeError(f"{value!r} is no JSON")
