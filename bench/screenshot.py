"""Draws the README's picture: a demo of its own, as a terminal shows it.

    python -m bench.screenshot [--seconds N] [--out FILE]

The picture is that of the demo's last look at the running product, with what came of its checks.
"""

import argparse
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.terminal_theme import MONOKAI

from frontend.demo.picture import WIDTH, picture
from frontend.demo.progress import Progress
from frontend.demo.run import run_demo
from frontend.demo.scene import Scene

OUT = Path(__file__).resolve().parent.parent / "frontend" / "docs" / "demo.svg"

# Without the fonts that rich would fetch, and with its colours as they are.
FORMAT = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix{{font-family:ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;\
font-size:{char_height}px;line-height:{line_height}px;font-variant-east-asian:full-width}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" \
height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x},{terminal_y})" \
clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class _Kept:
    """The newest scene, and the same as lines for who waits."""

    def __init__(self) -> None:
        self.scene = Scene("")

    def show(self, scene: Scene) -> None:
        """Keep it."""
        self.scene = scene


def drawing(scene: Scene) -> str:
    """Return a scene as SVG."""
    console = Console(
        file=io.StringIO(), record=True, width=WIDTH, force_terminal=True, legacy_windows=False
    )
    console.print(picture(scene, console))
    return console.export_svg(
        title="shardbook demo", theme=MONOKAI, code_format=FORMAT, unique_id="demo"
    )


def main() -> None:
    """Run a demo and draw it."""
    parser = argparse.ArgumentParser(prog="python -m bench.screenshot", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    kept = _Kept()

    @contextmanager
    def show(_: TextIO) -> Iterator[Progress]:
        yield kept

    code = run_demo(options.seconds, 4, None, sys.stdout, show)
    if code:
        raise SystemExit("a check of the demo failed: no picture")
    options.out.write_text(drawing(kept.scene))
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
