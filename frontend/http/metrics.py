"""The product in figures, as Prometheus reads them: from the status page and the rings alone.

Every process counts in its own slot of the page, HTTP workers too, so it does not matter which of
the workers is scraped: each tells the figures of all. Written by hand because prometheus_client
keeps metrics of its own process, and here is none to keep.
"""

from engine.roles import MATCHER
from frontend.http.product_state import ProductState
from frontend.roles import HTTP, ORDER_LATENCY_US
from ipc.memory.status import ProcessStatus, ShownRole
from ipc.vocabulary import Reason

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[str, str, int | float]
"""Suffix of the name, labels, value."""


def metrics(state: ProductState) -> bytes:
    """Return every figure."""
    processes = state.page.processes()
    lines: list[str] = []
    _family(
        lines,
        "shardbook_up",
        "gauge",
        "1 where a process serves.",
        [("", _labels(p), int(p.state == "ready")) for p in processes],
    )
    _family(
        lines,
        "shardbook_start_time_seconds",
        "gauge",
        "When a process began.",
        [("", _labels(p), p.started_ns / 1e9) for p in processes if p.started_ns],
    )
    for role in state.page.roles:
        _role(lines, role, [process for process in processes if process.role == role.name])
    _family(
        lines,
        "shardbook_rejects_total",
        "counter",
        "Commands that were refused, by code.",
        [
            ("", f'{_labels(p)},code="{Reason(code).name}"', count)
            for p in processes
            for code, count in p.rejects.items()
        ],
    )
    _rings(lines, state, processes)
    _latency(lines, [process for process in processes if process.role == HTTP.name])
    return ("\n".join(lines) + "\n").encode()


def _role(lines: list[str], role: ShownRole, processes: list[ProcessStatus]) -> None:
    for name in role.counters:
        if name.startswith("order_under_us_") or name in ("order_over", "order_seconds_ns"):
            continue
        gauge = name in role.gauges
        _family(
            lines,
            f"shardbook_{role.name}_{name}" + ("" if gauge else "_total"),
            "gauge" if gauge else "counter",
            f"{name.replace('_', ' ')} of each {role.name}.",
            [("", _labels(p), p.counters[name]) for p in processes],
        )


def _rings(lines: list[str], state: ProductState, processes: list[ProcessStatus]) -> None:
    """The queues between matchers and what reads them."""
    rings = state.rings.items()
    _family(
        lines,
        "shardbook_ring_published_trades_total",
        "counter",
        "Trades of a shard since its first.",
        [("", f'shard="{shard}"', ring.published) for shard, ring in rings],
    )
    for process in processes:
        if process.reader is not None:
            _family(
                lines,
                f"shardbook_{process.role}_lag_trades",
                "gauge",
                f"Trades of a shard that a {process.role} is not done with.",
                [
                    ("", f'shard="{shard}"', ring.published - ring.cursor_of(process.reader))
                    for shard, ring in rings
                ],
            )
    _family(
        lines,
        "shardbook_ring_capacity_trades",
        "gauge",
        "How many trades may wait.",
        [("", f'shard="{shard}"', ring.capacity) for shard, ring in rings],
    )
    _family(
        lines,
        "shardbook_live_orders",
        "gauge",
        "Orders of a shard that have not ended.",
        [("", f'shard="{shard}"', table.live_orders) for shard, table in state.tables.items()],
    )


def _latency(lines: list[str], workers: list[ProcessStatus]) -> None:
    """The time from a request to its answer, of orders over HTTP."""
    samples: list[Sample] = []
    for process in workers:
        labels, total = _labels(process), 0
        for bound in ORDER_LATENCY_US:
            total += process.counters[f"order_under_us_{bound}"]
            samples.append(("_bucket", f'{labels},le="{bound / 1e6:g}"', total))
        total += process.counters["order_over"]
        samples.append(("_bucket", f'{labels},le="+Inf"', total))
        samples.append(("_sum", labels, process.counters["order_seconds_ns"] / 1e9))
        samples.append(("_count", labels, total))
    _family(
        lines,
        "shardbook_http_order_seconds",
        "histogram",
        "How long orders over HTTP took.",
        samples,
    )


def _labels(process: ProcessStatus) -> str:
    kind = "shard" if process.role == MATCHER.name else "number"
    return f'role="{process.role}",{kind}="{process.number}"'


def _family(lines: list[str], name: str, kind: str, text: str, samples: list[Sample]) -> None:
    if not samples:
        return
    lines.append(f"# HELP {name} {text}")
    lines.append(f"# TYPE {name} {kind}")
    lines += [f"{name}{suffix}{{{labels}}} {value}" for suffix, labels, value in samples]
