"""A real browser for tests of the page: Debian's Chromium, driven by Playwright.

Where either is missing, tests that need it skip. SHARDBOOK_SCREENSHOTS names a directory for
pictures of what they saw.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.plan import Plan

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 60_000

SHOWN = """
(symbol) => {
  const plain = (text) => text.replaceAll("\\u202f", "").trim();
  const grid = document.querySelector(`.ladder[data-symbol="${symbol}"] [role=grid]`);
  const levels = (name) => [...grid.querySelectorAll("tbody tr")]
    .map((row) => [row, row.querySelector(`td.${name} span`)])
    .map(([row, size]) => [Number(row.dataset.ticks), plain(size.textContent)])
    .filter(([, size]) => size);
  const own = [...grid.querySelectorAll("tbody tr")].flatMap((row) => ["buy", "sell"]
    .filter((side) => row.querySelector(`td.own.${side}`))
    .map((side) => [Number(row.dataset.ticks), side]));
  const rows = (table, cells) => [...document.querySelectorAll(`${table} tbody tr:not(.past)`)]
    .map((row) => [Number(row.dataset.id), ...cells.map((n) => row.children[n].textContent)])
    .map(([id, ...texts]) => [id, ...texts.map(plain)]);
  return {
    bids: levels("bid"), asks: levels("ask"),
    tape: rows("#tape", [1, 2]).slice(0, 8),
    orders: rows("#orders", [5, 8]).sort((a, b) => a[0] - b[0]),
    own,
  };
}
"""
"""What the page shows of a symbol: levels, the newest trades, open orders, own rows."""

EQUALS = """
async ([symbol, wanted, wait_ms]) => {
  const shown = SHOWN;
  const end = performance.now() + wait_ms;
  for (;;) {
    let found;
    try { found = shown(symbol); } catch (error) { found = String(error); }
    if (JSON.stringify(found) === wanted || performance.now() > end) return found;
    await new Promise((next) => setTimeout(next, 5));
  }
}
""".replace("SHOWN", SHOWN.strip())

BECOMES = """
async ([selector, text, wait_ms]) => {
  const end = performance.now() + wait_ms;
  for (;;) {
    const found = document.querySelector(selector)?.textContent ?? null;
    const true_ = text === null ? found === null : found !== null && found.includes(text);
    if (true_ || performance.now() > end) return found;
    await new Promise((next) => setTimeout(next, 10));
  }
}
"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A running Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield started
        started.close()


class Page:
    """The page of a product in a browser's context of its own; every request of it is kept."""

    def __init__(self, context: Any, plan: Plan) -> None:
        assert plan.http_address is not None
        self.origin = f"http://{plan.http_address.place}"
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.context = context
        context.on("request", lambda request: self.requests.append(request.url))
        self.page = context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        expected = ("Failed to load resource", "WebSocket connection to", "503")
        if message.type == "error" and not any(text in message.text for text in expected):
            self.errors.append(message.text)

    def open(self, user: str | None = None) -> "Page":
        """Open it, and say who trades."""
        self.page.goto(f"{self.origin}/")
        self.page.wait_for_selector("#connection[data-state=live]")
        if user is not None:
            self.log_in(user)
        return self

    def log_in(self, user: str) -> None:
        """Say who trades."""
        self.page.click("#who")
        self.page.fill("#user-id", user)
        self.page.press("#user-id", "Enter")
        self.is_logged_in(user)

    def is_logged_in(self, user: str) -> None:
        """Wait until somebody trades, and the dialog, which takes what is typed, is gone."""
        self.becomes("#who", user)
        self.becomes("dialog", None)

    def shows(self, symbol: str, wanted: dict[str, Any]) -> None:
        """Wait until the page shows just that."""
        text = json.dumps(wanted, separators=(",", ":"))
        found = self.page.evaluate(EQUALS, [symbol, text, WAIT_MS])
        assert found == wanted

    def becomes(self, selector: str, text: str | None) -> None:
        """Wait until an element has a text; None: until there is none."""
        found = self.page.evaluate(BECOMES, [selector, text, WAIT_MS])
        if text is None:
            assert found is None
        else:
            assert found is not None
            assert text in found

    def picture(self, name: str) -> None:
        """Keep what is seen, where pictures are wanted."""
        directory = os.environ.get("SHARDBOOK_SCREENSHOTS")
        if directory:
            self.page.screenshot(path=Path(directory) / f"{name}.png")


@contextmanager
def page_of(
    browser: Any,
    plan: Plan,
    user: str | None = None,
    prepare: Callable[[Any], object] = lambda page: None,
    **options: Any,
) -> Iterator[Page]:
    """Open the page of a product; at the end it has asked nobody else, and had no error.

    ``prepare`` is called with Playwright's page before.
    """
    options.setdefault("viewport", {"width": 1600, "height": 1000})
    context = browser.new_context(**options)
    try:
        page = Page(context, plan)
        prepare(page.page)
        yield page.open(user)
        socket_origin = page.origin.replace("http://", "ws://")
        outside = [
            url
            for url in page.requests
            if not url.startswith((f"{page.origin}/", f"{socket_origin}/"))
        ]
        assert outside == []
        assert page.errors == []
    finally:
        context.close()
