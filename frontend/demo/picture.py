"""The picture of a demo on a terminal: steps, rate, depth, tape and latency."""

from rich.box import SIMPLE
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from frontend.demo.meter import DEPTH, TAPE, Percentiles, Rung, Sample
from frontend.demo.scene import DONE, FAILED, NOW, WAITING, Scene

WIDTH = 100
_BAR = 16

_MARKS = {WAITING: (".", "dim"), NOW: (">", "bold yellow"), DONE: ("ok", "green")} | {
    FAILED: ("FAILED", "bold red")
}


def picture(scene: Scene, console: Console) -> RenderableType:
    """Return the picture of a scene for a console: in plain letters where it has no others."""
    letters = " ▁▂▃▄▅▆▇█" if console.encoding.startswith("utf") else " .:-=+*%#"
    parts: list[RenderableType] = [Text(scene.title, "bold"), Text(), _steps(scene)]
    if scene.sample is not None:
        parts += [Text(), _rates(scene.sample, letters), Text()]
        tables = Table.grid(padding=(0, 4))
        tables.add_row(_depth(scene.sample, letters[-1]), _tape(scene.sample))
        parts.append(tables)
    latencies = [("alone", scene.alone), ("at full load", scene.beside)]
    for name, found in latencies:
        if found is not None:
            parts.append(_latency(name, found))
    return Group(*parts)


def _steps(scene: Scene) -> Table:
    table = Table.grid(padding=(0, 2))
    for step in scene.steps:
        mark, style = _MARKS[step.state]
        table.add_row(Text(mark, style), Text(step.name, style), Text(step.text))
    return table


def _rates(sample: Sample, letters: str) -> Text:
    highest = max(*sample.rates, 1.0)
    line = "".join(letters[round(rate / highest * (len(letters) - 1))] for rate in sample.rates)
    text = Text(f"{sample.orders_per_s:11,.0f} orders/s ", "bold")
    text.append(f"{sample.trades_per_s:11,.0f} trades/s  ")
    return text.append(line, "cyan")


def _depth(sample: Sample, full: str) -> Table:
    """Return both sides of the first symbol's book, the best prices in the middle."""
    table = Table(box=SIMPLE, title=f"{sample.tops[0].symbol}, depth", title_style="dim")
    for name in ("orders", "lots", "price"):
        table.add_column(name, justify="right", min_width=7)
    table.add_column("", min_width=_BAR)
    most = max((rung.lots for rung in (*sample.bids, *sample.asks)), default=1)
    missing = [Rung("", 0, 0)] * DEPTH
    asks = [*sample.asks, *missing][:DEPTH]
    for style, rungs in (("red", asks[::-1]), ("green", [*sample.bids, *missing][:DEPTH])):
        for rung in rungs:
            bar = full * -(-rung.lots * _BAR // most)
            numbers = (f"{rung.orders:,}", f"{rung.lots:,}") if rung.price else ("", "")
            table.add_row(*numbers, Text(rung.price, style), Text(bar, style))
    return table


def _tape(sample: Sample) -> Table:
    table = Table(box=SIMPLE, title="last trades", title_style="dim")
    for name in ("time", "symbol", "price", "quantity"):
        table.add_column(name, justify="left" if name in ("time", "symbol") else "right")
    for trade in sample.tape[:TAPE]:
        style = "green" if trade.side == "buy" else "red"
        price = Text(trade.price, style)
        table.add_row(Text(trade.time, "dim"), trade.symbol, price, trade.quantity)
    return table


def _latency(name: str, found: Percentiles) -> Text:
    text = Text(f"latency {name:<13}", "bold")
    for word, value in (("p50", found.p50), ("p99", found.p99), ("p99.9", found.p999)):
        text.append(f"{word} ", "dim").append(f"{value:,.0f} us  ")
    return text.append(f"of {found.commands:,} commands, one at a time", "dim")
