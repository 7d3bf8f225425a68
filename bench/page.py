"""What the page costs a browser: ten symbols, 200 changes a second, three ladders side by side.

    python -m bench.page [--seconds N] [--rate N]

Prints how busy the page's main thread was, its longest tasks, its memory after a collection at the
beginning and at the end, and what the page cost the HTTP worker that serves it.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

from bench.chromium import chromium, log_in, moving
from engine.plan import Plan
from ipc.memory.status import StatusReader

PANES = 3
SLICE_S = 5.0
PARTS = ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration")


def metrics(session: Any) -> dict[str, float]:
    """Return what the browser counts of the page's main thread and memory."""
    found = session.send("Performance.getMetrics")["metrics"]
    return {row["name"]: float(row["value"]) for row in found}


def heap_bytes(session: Any) -> float:
    """Return what is in use once garbage is gone."""
    session.send("HeapProfiler.collectGarbage")
    return metrics(session)["JSHeapUsedSize"]


def worker_s(plan: Plan) -> float:
    """Return the processor time that the HTTP worker has had."""
    pid = next(p.pid for p in StatusReader(plan.status_path).processes() if p.role == "http")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Open the page and watch it."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--symbols", type=int, default=10)
    options = parser.parse_args()
    with moving(options.symbols, options.rate) as market, chromium() as browser:
        context = browser.new_context(viewport={"width": 1920, "height": 1080})
        page = context.new_page()
        begun_s = time.monotonic()
        page.goto(market.address)
        log_in(page, "watcher")
        for instrument in market.plan.instruments[1:PANES]:
            row = f".watch tr[data-symbol='{instrument.symbol}'] td:last-child button"
            page.click(row)
        paint_ms = page.evaluate(
            "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        )
        print(
            f"first paint after {paint_ms:.0f} ms; ready after {time.monotonic() - begun_s:.1f} s"
        )
        session = context.new_cdp_session(page)
        session.send("Performance.enable")
        page.evaluate(
            "() => { window.long = []; new PerformanceObserver((list) => "
            "window.long.push(...list.getEntries().map((e) => e.duration)))"
            ".observe({ type: 'longtask' }); }"
        )
        page.wait_for_timeout(2_000)
        page.evaluate("() => { window.long.length = 0; }")
        first_heap, last = heap_bytes(session), metrics(session)
        first = last
        busy, worker_begun_s, watched_s = [], worker_s(market.plan), time.monotonic()
        end_s = time.monotonic() + options.seconds
        while time.monotonic() < end_s:
            page.wait_for_timeout(SLICE_S * 1_000)
            now = metrics(session)
            passed_s = now["Timestamp"] - last["Timestamp"]
            busy.append((now["TaskDuration"] - last["TaskDuration"]) / passed_s)
            last = now
        spent = {name: last[name] - first[name] for name in (*PARTS, "Timestamp")}
        share = (worker_s(market.plan) - worker_begun_s) / (time.monotonic() - watched_s)
        long = sorted(page.evaluate("window.long"), reverse=True)
        gaps = page.inner_text("[title^='Sequence gaps']")
        heap = heap_bytes(session)
        nodes = metrics(session)["Nodes"]
    print(
        f"main thread busy {statistics.median(busy):.1%} ({min(busy):.1%}..{max(busy):.1%}) of "
        f"{len(busy)} slices of {SLICE_S:g} s"
    )
    parts = ", ".join(f"{name} {spent[name] / spent['Timestamp']:.1%}" for name in PARTS)
    print(f"of that: {parts}")
    print(f"tasks over 50 ms: {len(long)}; longest: {[round(ms) for ms in long[:5]]}")
    print(
        f"heap {first_heap / 1e6:.2f} MB at first, {heap / 1e6:.2f} MB at last; {nodes:.0f} nodes"
    )
    print(f"{gaps}; the HTTP worker: {share:.1%} of a core")


if __name__ == "__main__":
    main()
