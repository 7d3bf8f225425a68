"""Commands in a mount namespace of their own: with another /dev/shm, or places that are read-only.

Skipped where this user may make none.
"""

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest


def _unshare() -> list[str]:
    return ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--mount"]


def in_namespace(setup: Sequence[str]) -> list[str]:
    """Return what runs the command that follows it, after the lines of shell in ``setup``."""
    try:
        probe = [*_unshare(), "mount", "-t", "tmpfs", "none", "/mnt"]
        subprocess.run(probe, check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("this user may make no mount namespace")
    script = "\n".join(["set -e", *setup, 'exec "$@"'])
    return [*_unshare(), "sh", "-c", script, "sh"]


def sized(size: str) -> list[str]:
    """Return what gives a namespace a /dev/shm of its own, of a size."""
    return [f"mount -t tmpfs -o size={size} tmpfs /dev/shm"]


def sealed(*writable: Path) -> list[str]:
    """Return what makes all of the root file system read-only but for some directories."""
    names = [shlex.quote(str(path)) for path in writable]
    return [*(f"mount --bind {name} {name}" for name in names), "mount -o remount,bind,ro /"]
