"""Compiling ahead: what is warmed leaves nothing for the first order, or the first death."""

import subprocess
import sys
from pathlib import Path

import pytest

from ipc.native.compiled import HAVE_NUMBA

USED = """
from engine.journal import batches
from engine.shard import pipeline_kernel
from engine.warm import warm
from frontend.gateway import frame_sorter
from frontend.roles import ROLES
from ipc.memory import order_table_kernel
from ipc.wire import command_decoder, report_encoder

warm("ladder", ROLES.warm)
kernels = [
    batches._pack_words,
    batches._scan_words,
    pipeline_kernel.run_pipeline,
    frame_sorter.sort_by_symbol,
    frame_sorter.sort_by_stream,
    command_decoder.scan_received,
    report_encoder.encode_reports,
    order_table_kernel.apply_reports,
]
print([kernel.__name__ for kernel in kernels if len(kernel.signatures) != 1])
"""


@pytest.mark.skipif(not HAVE_NUMBA, reason="nothing is compiled without numba")
def test_everything_that_a_shard_runs_is_ready_before_it_serves() -> None:
    command = [sys.executable, "-c", USED]
    done = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
