"""Folders by the names of the product's packages, in the directory where a program runs.

They do nothing to the product's processes; in a client program's way, the error names them.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.product import WAIT_S, config_text

ROOT = Path(__file__).parent.parent
SHADOW = "raise SystemExit(f'SHADOWED: {__file__} was imported')\n"
NAMES = (
    "engine",
    "frontend",
    "ipc",
    "configs",
    "multiprocessing",
    "logging",
    "pickle",
    "selectors",
)
ARGUMENTS = ("serve", "--config", "test.toml", "--data-dir", "data")
PROGRAM = """
from frontend.__main__ import main
if __name__ == "__main__":
    raise SystemExit(main())
"""
OWNER = """
import os, signal
from pathlib import Path
from engine.config import load_config
from frontend.launch import running_engine
if __name__ == "__main__":
    with running_engine(load_config(Path("test.toml")), Path("data")) as plan:
        print("ready", flush=True)
        signal.pause()
"""


@pytest.mark.parametrize("text", [PROGRAM, OWNER], ids=["serve", "an engine of its own"])
def test_the_product_runs_where_its_names_are_taken(text: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(text)
    with TemporaryDirectory(prefix="sb-") as place:
        for name in NAMES:
            (Path(place) / name).mkdir()
            (Path(place) / name / "__init__.py").write_text(SHADOW)
        (Path(place) / "test.toml").write_text(config_text(1, 1))
        program = subprocess.Popen(
            [sys.executable, tmp_path / "program.py", *ARGUMENTS],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert program.stdout is not None
        try:
            said = [program.stdout.readline()]
            while said[-1] not in ("ready\n", ""):
                said.append(program.stdout.readline())
            program.send_signal(signal.SIGTERM)
            after, _ = program.communicate(timeout=WAIT_S)
        finally:
            program.kill()
    assert "SHADOWED" not in "".join(said) + after
    assert said[-1] == "ready\n"


@pytest.mark.parametrize("name", ["engine", "ipc", "configs", "frontend"])
def test_what_shadows_a_client_program_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    (tmp_path / "program.py").write_text("from shardbook import Client\n")
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: Shardbook's package {name!r} in {ROOT} is shadowed by {tmp_path / name}: "
        "rename that, or run the program from another directory"
    )
