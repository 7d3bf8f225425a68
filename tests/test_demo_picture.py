"""The demo's picture and lines: all of a scene is there, and no scene or alphabet breaks it."""

import io
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from bench.screenshot import drawing
from frontend.demo.meter import DEPTH, TAPE, Percentiles, Print, Rung, Sample, Top
from frontend.demo.picture import WIDTH, picture
from frontend.demo.progress import progress_on
from frontend.demo.scene import DONE, FAILED, NOW, Scene, Step

LATENCY = Percentiles(61.0, 140.0, 900.0, 12_345)


def sample(rungs: int = DEPTH, trades: int = TAPE) -> Sample:
    return Sample(
        4.2,
        612_345.0,
        301_234.0,
        [0.0, 300_000.0, 612_345.0],
        [Top("COOTX", "99.90", "100.10"), Top("AAPL", "-", "-")],
        [Rung(f"{99.90 - n / 100:.2f}", 1_000 * n, n) for n in range(rungs)],
        [Rung(f"{100.10 + n / 100:.2f}", 900 * n, n) for n in range(rungs)],
        [Print(f"12:00:0{n % 10}.123", "COOTX", "buy", "100.10", f"{n}") for n in range(trades)],
    )


def scene(seen: Sample | None) -> Scene:
    steps = [Step("one at a time", DONE, "8,000/s"), Step("arrays", NOW, "on"), Step("checks")]
    return Scene("shardbook demo: 2 matchers", steps, sample=seen, alone=LATENCY, beside=LATENCY)


def drawn(shown: Scene, encoding: str = "utf-8") -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    console = Console(file=out, width=WIDTH, force_terminal=False)
    console.print(picture(shown, console))
    out.seek(0)
    return out.read()


def test_all_of_a_scene_is_in_the_picture() -> None:
    text = drawn(scene(sample()))
    for piece in ("612,345 orders/s", "301,234 trades/s", "COOTX, depth", "last trades", "99.90"):
        assert piece in text
    assert text.count("p50 61 us") == 2
    assert text.count("COOTX") == TAPE + 1
    places = [text.index(f" {price} ") for price in ("100.17", "100.10", "99.90", "99.83")]
    assert places == sorted(places)  # asks above, the best prices in the middle
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("seen", [None, sample(0, 0), sample(3, 1), sample()])
def test_no_scene_and_no_alphabet_breaks_it(seen: Sample | None, encoding: str) -> None:
    assert "shardbook demo" in drawn(scene(seen), encoding)


def test_the_drawing_is_small_and_fetches_nothing() -> None:
    svg = drawing(scene(sample()))
    ET.fromstring(svg)
    assert "http" not in svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "612,345" in svg
    assert len(svg) < 60_000


def test_plain_lines_tell_each_step_once_and_how_it_ended() -> None:
    out, shown = io.StringIO(), scene(sample())
    with progress_on(out) as progress:
        for _ in range(3):
            progress.show(shown)
        shown.steps[1].state, shown.steps[1].text = DONE, "612,345 orders/s"
        shown.trading = False
        shown.steps[2].state, shown.steps[2].text = FAILED, "they differ"
        for _ in range(3):
            progress.show(shown)
    lines = out.getvalue().splitlines()
    assert [line[:6].strip() for line in lines] == ["ok", "", "ok", "FAILED"]
    assert lines[1].endswith("arrays: on")
    assert lines[3] == "FAILED    checks: they differ"
    assert not any("\x1b" in line for line in lines)
