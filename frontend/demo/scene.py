"""What a demo shows: its steps with what came of each, and the newest look at the product."""

from dataclasses import dataclass, field

from frontend.demo.meter import Percentiles, Sample

WAITING, NOW, DONE, FAILED = range(4)


@dataclass
class Step:
    """One of the parts of a demo; ``text`` is what came of it, or how far it is."""

    name: str
    state: int = WAITING
    text: str = ""


@dataclass
class Scene:
    """All that is shown at a time."""

    title: str
    steps: list[Step] = field(default_factory=list)
    trading: bool = True
    sample: Sample | None = None
    alone: Percentiles | None = None
    """Latencies of one client that trades alone."""
    beside: Percentiles | None = None
    """And of one that does so under full load."""
