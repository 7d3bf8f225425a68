"""``shardbook demo --page``: a product with a calm market and the page, for people to trade in."""

import secrets
import socket
import tempfile
import time
from pathlib import Path
from typing import TextIO

import msgspec

from engine.config import Config
from engine.sections import HttpSection
from frontend.demo.calm import CalmMarket
from frontend.demo.run import demo_config
from frontend.launch import running_engine

CHANGES_PER_S = 60.0
PREFERRED_PORT = 8080


def run_page(seconds: float | None, symbols: int, seed: int | None, out: TextIO) -> int:
    """Let a market go on until it is interrupted, or for some seconds; return the exit code.

    Raises ``ServeError`` where the product does not start.
    """
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="shardbook-demo-") as name:
        directory = Path(name)
        config = page_config(directory / "data", symbols)
        print(f"demo with the page in {directory}, --seed {seed}", file=out, flush=True)
        with running_engine(config, directory / "data", None) as plan:
            market = CalmMarket(str(plan.addresses()[0]), plan.instruments, seed)
            try:
                market.fill()
                print(f"page: http://{config.http.address}/", file=out, flush=True)
                print("press u there to say who you are; Ctrl-C ends it", file=out, flush=True)
                end_s = None if seconds is None else time.monotonic() + seconds
                market.run(CHANGES_PER_S, lambda: end_s is None or time.monotonic() < end_s)
            finally:
                market.close()
    return 0


def page_config(data_dir: Path, symbols: int) -> Config:
    """Return a demo's configuration that serves the page on loopback."""
    http = HttpSection(address=f"127.0.0.1:{free_port()}")
    return msgspec.structs.replace(demo_config(data_dir, symbols), http=http)


def free_port() -> int:
    """Return the usual port where nobody has it, or else another that is free."""
    for port in (PREFERRED_PORT, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as server:
                found: int = server.getsockname()[1]
                return found
        except OSError:
            continue
    raise OSError("127.0.0.1 has no free port")
