"""An effect that is added to the list reaches all who go through it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipc.native.compiled import HAVE_NUMBA

ADDED = """
import sys
from pathlib import Path

import numpy as np

from engine.shard import effects
from engine.shard.effects import Effect, Stage
from ipc.native.compiled import inlined

seen = []


def note(sinks, made):
    seen.append(len(made.reports))


@inlined
def note_each(views, index):
    views.rejects[0] += np.uint64(1)
    return 0


effects.EFFECTS = (*effects.EFFECTS, Effect(Stage.REPORT, note))
if sys.argv[2] == "twin":
    effects.TWINS[note] = note_each

from engine.shard.plain_pipeline import PlainPipeline
from ipc.memory.status import FIRST_REJECT
from tests.kept import commands_for, plan_of, recovered, write_journal
from tests.test_pipeline import Flow, LIMITS, Profile, Shown, near
from tests.test_snapshot import SMALL

directory = Path(sys.argv[1])
commands = Flow(Profile(LIMITS, near(1_000, 10), accounts=20), 1).commands(200)

plain = Shown(directory / "plain", PlainPipeline, capacity=1_000)
plain.match(commands, 0)
print("plain", sum(seen) == plain.ring.published > 0)

seen.clear()
plan = plan_of(directory / "kept", SMALL)
write_journal(plan, commands_for(plan, 300))
found, _ = recovered(plan)
print("recovery", sum(seen) == found.shard.account_sequences.reports > 0)

compiled = Shown(directory / "compiled", capacity=1_000)
compiled.match(commands, 0)
counted = compiled.round._parts.status.words[FIRST_REJECT]
print("compiled", counted == compiled.ring.published > 0)
"""

needs_numba = pytest.mark.skipif(not HAVE_NUMBA, reason="nothing is compiled without numba")


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a process with one effect more than there are."""
    return subprocess.run(
        [sys.executable, "-c", ADDED, str(directory), *arguments],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "SHARDBOOK_CACHE": str(directory / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_numba
def test_an_effect_in_the_list_is_one_of_both_pipelines_and_of_recovery(tmp_path: Path) -> None:
    done = run(tmp_path, "twin")
    assert done.stdout == "plain True\nrecovery True\ncompiled True\n", done.stderr


@needs_numba
def test_an_effect_without_a_compiled_twin_is_refused_by_name(tmp_path: Path) -> None:
    done = run(tmp_path, "none")
    assert done.stdout == "plain True\nrecovery True\n"
    assert "note has no compiled twin" in done.stderr
