"""The page of a calm market in Debian's Chromium, for benches and pictures: needs the extra
``browser``."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine.config import Config
from engine.plan import Plan
from frontend.demo.calm import CalmMarket
from frontend.demo.open_market import page_config
from frontend.launch import running_engine

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-precise-memory-info",
    "--js-flags=--expose-gc",
]


class Moving:
    """A product whose market moves meanwhile, at a rate that can be changed."""

    def __init__(self, plan: Plan, config: Config, seed: int, changes_per_s: float) -> None:
        self.plan = plan
        self.address = f"http://{config.http.address}/"
        self._market = CalmMarket(str(plan.addresses()[0]), plan.instruments, seed)
        self._going = True
        self._thread = threading.Thread(target=self._run, args=(changes_per_s,))

    def __enter__(self) -> "Moving":
        self._market.fill()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._going = False
        self._thread.join()
        self._market.close()

    def _run(self, changes_per_s: float) -> None:
        self._market.run(changes_per_s, lambda: self._going)


@contextmanager
def moving(symbols: int, changes_per_s: float, seed: int = 1) -> Iterator[Moving]:
    """Run a product with a calm market."""
    with TemporaryDirectory(prefix="sb-") as name:
        config = page_config(Path(name) / "data", symbols)
        with (
            running_engine(config, Path(name) / "data") as plan,
            Moving(plan, config, seed, changes_per_s) as market,
        ):
            yield market


@contextmanager
def chromium() -> Iterator[Any]:
    """Run a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise SystemExit("needs: pip install '.[browser]'") from None
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("chromium is not installed")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


def log_in(page: Any, user: str) -> None:
    """Say who trades on an open page."""
    page.wait_for_selector("#connection[data-state=live]")
    page.click("#who")
    page.fill("#user-id", user)
    page.press("#user-id", "Enter")
    page.wait_for_selector("dialog", state="detached")
