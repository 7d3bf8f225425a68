"""Where a running demo is shown: a picture that stays on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.live import Live

from frontend.demo.picture import picture
from frontend.demo.scene import DONE, FAILED, NOW, Scene, Step

MAX_SYMBOLS = 6
"""Symbols shown on a plain line."""
LINE_S = 0.5
"""Between two plain lines of one step."""


class Progress(Protocol):
    """Somewhere to show a scene."""

    def show(self, scene: Scene) -> None:
        """Show what has become of it."""
        ...


@contextmanager
def progress_on(out: TextIO) -> Iterator[Progress]:
    """Give what fits ``out``: a picture that changes in place on a terminal, lines elsewhere."""
    if not out.isatty():
        yield _Lines(out)
        return
    console = Console(file=out)
    with Live(console=console, auto_refresh=False) as live:
        yield _Picture(live, console)


class _Lines:
    """Rates now and then, each step when it begins and ends."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown: dict[int, tuple[int, str]] = {}
        self._next_s = 0.0

    def show(self, scene: Scene) -> None:
        """Print what is new."""
        for place, step in enumerate(scene.steps):
            before = self._shown.get(place, (0, ""))
            if step.state in (DONE, FAILED) and step.state != before[0]:
                word = "ok" if step.state == DONE else "FAILED"
                self._print(f"{word:<8}  {_told(step)}")
            elif step.state == NOW and step.state != before[0]:
                self._print(f"{'':8}  {_told(step)}")
                self._next_s = time.monotonic() + LINE_S
            elif step.state == NOW and self._is_time():
                self._print(f"{'':8}  {_look(scene) or _told(step)}")
            elif step.state == NOW:
                continue
            self._shown[place] = step.state, step.text

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now < self._next_s:
            return False
        self._next_s = now + LINE_S
        return True

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


class _Picture:
    """A picture in place."""

    def __init__(self, live: Live, console: Console) -> None:
        self._live, self._console = live, console

    def show(self, scene: Scene) -> None:
        """Draw it anew."""
        self._live.update(picture(scene, self._console), refresh=True)


def _told(step: Step) -> str:
    return f"{step.name}: {step.text}" if step.name else step.text


def _look(scene: Scene) -> str:
    sample = scene.sample
    if sample is None or not scene.trading:
        return ""
    tops = "  ".join(f"{top.symbol} {top.bid}/{top.ask}" for top in sample.tops[:MAX_SYMBOLS])
    more = len(sample.tops) - MAX_SYMBOLS
    return (
        f"{sample.elapsed_s:6.1f} s  {sample.orders_per_s:9,.0f} orders/s  "
        f"{sample.trades_per_s:9,.0f} trades/s  {tops}" + (f"  and {more} more" if more > 0 else "")
    )
