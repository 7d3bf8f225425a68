"""A Python environment in which numba is not installed, beside the one that tests run in."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ABSENT = ("numba", "llvmlite")
OURS = ("configs", "engine", "frontend", "ipc")
ROOT = Path(__file__).resolve().parent.parent


def make_plain_environment(directory: Path) -> Path:
    """Make a virtual environment of all that is installed here but numba; return its Python.

    Every process that comes from it, however it is started, has that and no more.
    """
    command = [sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(directory)]
    subprocess.run(command, check=True, capture_output=True)
    python = directory / "bin" / "python"
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    target = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if package.name in OURS:  # the product finds itself where its files are
            shutil.copytree(package, target / package.name)
        elif not package.name.startswith(ABSENT):
            (target / package.name).symlink_to(package)
    (target / "shardbook-tested.pth").write_text(f"{ROOT}\n")
    return python
