"""The product as people run it, under the feet of whoever kills it."""

import subprocess
import sys
import time
from pathlib import Path

from engine.config import parse_config
from engine.plan import Plan

PATIENCE_S = 60.0
POLL_S = 0.002


class StuckError(RuntimeError):
    """What was waited for does not come."""


class Product:
    """The product as people run it, in a data directory: started, and started again."""

    def __init__(self, config: str, directory: Path) -> None:
        self.plan = Plan(parse_config(config, "kills"), directory)
        self.lines = directory / "output"
        self._config = directory / "config.toml"
        self._config.write_text(config)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it serves."""
        command = [sys.executable, "-m", "frontend.cli", "serve", "--config", str(self._config)]
        command += ["--data-dir", str(self.plan.data_dir)]
        begins = self.lines.stat().st_size if self.lines.exists() else 0
        with self.lines.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        deadline = time.monotonic() + PATIENCE_S
        while b"ready\n" not in self.lines.read_bytes()[begins:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()  # it would run on
                raise StuckError(f"it does not start:\n{self.lines.read_text()}")
            time.sleep(POLL_S)

    def kill(self) -> None:
        """Kill the supervisor, and start the product again."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.start()

    def stop(self) -> int:
        """Drain it; return its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(PATIENCE_S)

    def end(self) -> None:
        """End it, however it stands."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
