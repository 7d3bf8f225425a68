"""What a killed product leaves in shared memory, and what the next one makes of it."""

from pathlib import Path

import numpy as np
import pytest

from engine.plan import Plan
from engine.shared import create_shared, left_reports
from frontend.roles import ROLES
from ipc.memory.ring import REPORTS, RingReader, RingWriter
from ipc.records import REPORT
from tests.product import make_config


@pytest.mark.parametrize("kept", [16, 64])
def test_the_last_reports_stay(tmp_path: Path, kept: int) -> None:
    """The ring of the next product may be smaller or larger."""
    plan = Plan(make_config(2, 2, engine="ring_reports = 32"), tmp_path)
    plan.run_dir.mkdir(parents=True, mode=0o700)
    assert left_reports(plan) == {}
    create_shared(plan, ROLES.members(plan), {})
    reports = np.zeros(50, REPORT)
    reports["account_sequence"] = np.arange(1, 51)
    RingWriter(plan.report_ring_path(1), REPORTS).publish_new(reports, 1)
    again = Plan(make_config(2, 2, engine=f"ring_reports = {kept}"), tmp_path)
    create_shared(again, ROLES.members(again), {}, left_reports(again))
    empty, ring = (RingReader(again.report_ring_path(shard), REPORTS) for shard in (0, 1))
    assert (empty.published, empty.oldest) == (0, 1)
    assert (ring.capacity, ring.published) == (kept, 50)
    assert ring.last(99)["account_sequence"].tolist() == list(range(51 - min(32, kept), 51))
    for path in plan.run_dir.iterdir():
        path.unlink()
