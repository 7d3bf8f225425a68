"""Compiling in processes of their own: which process does what."""

import os
from collections.abc import Callable
from pathlib import Path

from engine.warm import Step
from engine.warm_apart import _compile


def step(name: str, directory: Path, *then: Step) -> Step:
    """Return a step that writes down which process does it, and of which that is a child."""

    def use() -> None:
        (directory / name).write_text(f"{os.getpid()} {os.getppid()}")

    return Step(name, use, then)


def done(directory: Path) -> dict[str, tuple[int, int]]:
    """Return the process of each step that was done, and its parent's."""
    written = {path.name: path.read_text().split() for path in directory.iterdir()}
    return {name: (int(pid), int(parent)) for name, (pid, parent) in written.items()}


def test_each_step_has_a_process_and_what_follows_goes_on_from_there(tmp_path: Path) -> None:
    told: list[str] = []
    after = (step("after", tmp_path), step("beside", tmp_path))
    _compile([step("first", tmp_path, *after), step("second", tmp_path)], told.append)
    found = done(tmp_path)
    assert len({pid for pid, _ in found.values()}) == 4
    assert os.getpid() not in {pid for pid, _ in found.values()}
    assert found["first"][1] == found["second"][1] == os.getpid()
    assert found["after"][1] == found["beside"][1] == found["first"][0]
    assert told[0] == "1 of 2: first"
    assert told[1].startswith("2 of 2: ")
    assert told[1].endswith("second")
    assert len(told) == 2


def test_a_step_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError

    ways: list[Callable[[], object]] = [fail, lambda: os._exit(3)]
    failing = [Step("failing", use, (step("never", tmp_path),)) for use in ways]
    _compile([*failing, step("last", tmp_path)], lambda text: None)
    assert done(tmp_path).keys() == {"last"}
