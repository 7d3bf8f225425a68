"""What the memory of a product costs that has nothing to do: ``python -m bench.idle``.

Every process's proportional set size without clean pages of files, which are the system's to take
back; in MB of 10^6 bytes. The product is started twice, and the second measured: the first may have
compiled.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.measure import machine, table
from bench.processes import children_of
from engine.config import load_config
from engine.plan import Plan
from ipc.memory.status import StatusReader

SYMBOL = '[[instruments]]\nsymbol = "S{}"\ntick_size = "0.01"\nmax_resting_orders = 40000\n'
SETTLE_S = 3.0


def dirty_bytes(pid: int) -> int:
    """Return the proportional set size of a process, of its pages that are in no file as they are.

    Linux counts it from version 6.0 on.
    """
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Dirty:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/{pid}/smaps_rollup: has no Pss_Dirty")


def measured(directory: Path, symbols: int) -> dict[str, int]:
    """Return the bytes of every process of a product at rest, by its name."""
    directory.mkdir()
    config = directory / "config.toml"
    symbol = "".join(map(SYMBOL.format, range(symbols)))
    config.write_text(f'data_dir = "{directory}/data"\n[http]\naddress = "127.0.0.1:0"\n{symbol}')
    command = [sys.executable, "-m", "frontend", "serve", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any(line == "ready\n" for line in process.stdout), "it does not start"
            time.sleep(SETTLE_S)
            shown = StatusReader(Plan(load_config(config)).status_path).processes()
            names = {each.pid: f"{each.role} {each.number}" for each in shown}
            pids = [process.pid]
            for pid in pids:
                pids += children_of(pid)
            return {names.get(pid, f"helper {pid}"): dirty_bytes(pid) for pid in pids}
        finally:
            process.terminate()


def main() -> None:
    """Run by hand."""
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("--symbols", type=int, default=1_000)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="sb-") as directory:
        measured(Path(directory) / "first", 1)
        found = measured(Path(directory) / "again", options.symbols)
    print(machine())
    rows = [[name, f"{size / 10**6:.1f}"] for name, size in found.items()]
    rows.append(["all", f"{sum(found.values()) / 10**6:.1f}"])
    print(table(f"{options.symbols} idle symbols", ["process", "MB"], rows))


if __name__ == "__main__":
    main()
