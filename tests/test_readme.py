"""What README and manual show works: every block of code, in order, twice on one data directory.

The blocks and commands are taken from the file, whatever they are by now. What is not run here is
listed, with where it is run instead: a new one is run, or fails this test.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.config import load_config
from engine.plan import Plan
from ipc.memory.status import StatusReader
from tests.fork_server import ROOT
from tests.http import free_port

TEXT = (ROOT / "README.md").read_text()
DOCS = ROOT / "frontend" / "docs"
MANUAL = sorted(DOCS.glob("*.md"))
ADDRESS = "127.0.0.1:8080"
"""Where the README has HTTP; here it is a port that nobody has."""
WAIT_S = 120.0
DONE = "-- done --"

ELSEWHERE = {
    ("Shardbook", 1): "sets up from a package registry, and runs the demo: tests/test_demo.py",
    ("Shardbook", 2): "what the demo prints",
    ("The tests", 1): "runs the tests",
    ("tutorial: How it flows", 1): "a drawing",
    ("rest: WebSocket", 1): "messages with gaps to fill in: tests/test_http_socket.py",
    ("benchmarks: The benches", 1): "measurements of minutes each",
}
"""Blocks by their heading and their number under it."""
COMMANDS_ELSEWHERE = {
    "serve": "is what all others are run beside",
    "demo": "runs a product of its own for a while: tests/test_demo.py",
    "replay": "needs a recorded flow: tests/test_replay.py",
}
PLACES = {"SYMBOL": "AAPL", "ID": "1", "DIR": "shardbook-data", "USER": "alice"}
"""What is given where a command's form names something."""
STOPPED = {"recover"}
"""Commands for a product that does not run."""


class Block(NamedTuple):
    """A block of code."""

    place: tuple[str, int]
    language: str
    code: str


def blocks() -> list[Block]:
    """Return every block of the README, and then of the manual's pages, in order."""
    found = _blocks(TEXT)
    for page in MANUAL:
        found += [
            block._replace(place=(f"{page.stem}: {block.place[0]}", block.place[1]))
            for block in _blocks(page.read_text())
        ]
    return found


def _blocks(text: str) -> list[Block]:
    found: list[Block] = []
    heading, number = "", 0
    for match in re.finditer(r"^#+ ([^\n]*)$|^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        if match[1] is not None:
            heading, number = match[1], 0
        else:
            number += 1
            found.append(Block((heading, number), match[2], match[3]))
    assert 2 * len(found) == len(re.findall("^ *```", text, re.M))
    return found


def commands() -> list[list[str]]:
    """Return every command of the tutorial's table in its shortest form."""
    text = (DOCS / "tutorial.md").read_text()
    forms = re.findall(r"^\| `shardbook ([^`]+)` \|", text, re.M)
    return [re.sub(r"\[.*?\]", "", form).split() for form in forms]


class User:
    """Somebody with an empty directory who does what the README shows."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = f"127.0.0.1:{free_port()}"
        program = directory / "bin" / "shardbook"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m frontend.cli "$@"\n')
        program.chmod(0o700)
        self.environment = os.environ | {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PORT": self.address.rpartition(":")[2],
        }

    def run(self, *command: str) -> str:
        """Run a command that ends well, and says nothing on stderr that is a trouble."""

        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        said = f"{command}:\n{done.stdout[-4_000:]}\n{done.stderr}"
        assert done.returncode == 0, said
        assert "Traceback" not in done.stderr, said
        return done.stdout

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run the product as the README says, until it is ended by SIGTERM."""
        with subprocess.Popen(
            ["shardbook", "serve"],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as product:
            assert product.stdout is not None
            try:
                said = []
                for line in product.stdout:
                    said.append(line)
                    if line == "ready\n":
                        break
                else:
                    raise AssertionError(f"it never was ready: {said}")
                yield
            finally:
                product.send_signal(signal.SIGTERM)
                product.stdout.read()
        assert product.returncode == 0

    def python(self, code: str) -> None:
        """Run a program; it shows something."""
        assert self.run(sys.executable, "-c", code)

    def shell(self, code: str) -> None:
        """Run lines of a shell; what asks over HTTP gets a good answer."""
        lines = re.sub(r"\\\n|(?<=\|)\n", " ", code).splitlines()
        script = "".join(f"{line}\necho '\n{DONE}'\n" for line in lines)
        output = self.run(
            "bash", "-e", "-o", "pipefail", "-c", script.replace(ADDRESS, self.address)
        )
        for line, answer in zip(lines, output.split(DONE), strict=False):
            if not line.startswith(("curl ", "ID=")):
                continue
            if line.startswith("curl "):
                assert answer.strip(), f"{line}: no answer"
            if answer.lstrip().startswith("{"):
                assert json.loads(answer)["success"] is True, f"{line}: {answer}"

    def rejects(self) -> list[dict[int, int]]:
        """Return what was rejected, by process and reason."""
        page = StatusReader(Plan(load_config(), self.directory / "shardbook-data").status_path)
        return [process.rejects for process in page.processes() if process.rejects]


@pytest.fixture
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    return User(tmp_path_factory.mktemp("r"))


def test_every_block_runs_twice_on_one_data_directory(user: User) -> None:
    runners = {"python": user.python, "sh": user.shell}
    for _ in range(2):
        with user.serving():
            for block in blocks():
                if block.place not in ELSEWHERE:
                    assert block.language in runners, f"{block.place}: say where this is run"
                    runners[block.language](block.code)
            assert user.rejects() == []
            run_commands(user, stopped=False)
        run_commands(user, stopped=True)


def run_commands(user: User, stopped: bool) -> None:
    """Run the commands that are for a product that runs, or for one that does not."""
    for name, *arguments in commands():
        if name not in COMMANDS_ELSEWHERE and (name in STOPPED) == stopped:
            user.run("shardbook", name, *(PLACES.get(word, word) for word in arguments))


def test_what_is_left_out_is_still_there_and_nothing_else() -> None:
    found = {block.place: block for block in blocks()}
    assert set(ELSEWHERE) <= set(found)
    assert all(found[place].language in ("sh", "") for place in ELSEWHERE)
    names = {name for name, *_ in commands()}
    assert set(COMMANDS_ELSEWHERE) | STOPPED <= names
    shown = {name for name, *_ in commands() if name not in COMMANDS_ELSEWHERE}
    assert {"trades", "book", "order", "verify", "status"} <= shown
    words = {word for name, *rest in commands() if name in shown for word in rest}
    assert {word for word in words if word.isupper()} <= set(PLACES)


def test_a_client_in_ten_lines_has_ten_lines_at_the_most() -> None:
    (block, *_) = [block for block in blocks() if block.place[0] == "A client in ten lines"]
    assert len([line for line in block.code.splitlines() if line]) <= 10


def anchors(path: Path) -> set[str]:
    """Return what a link into a page may name behind its #."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [ROOT / "README.md", *MANUAL], ids=lambda path: path.stem)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", page.read_text())
    for target, anchor in links:
        path = page.parent / target if target else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target}#{anchor}"


def test_the_first_screen_leads_to_every_page() -> None:
    assert len(TEXT.splitlines()) < 110
    for page in MANUAL:
        assert f"(frontend/docs/{page.name})" in TEXT
