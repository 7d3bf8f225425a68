"""What an operator takes from ``configs/``: checked by a tool each, and against the product."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.http import API, Http, serving

CONFIGS = Path(__file__).parent.parent / "configs"
NAME = re.compile(r"shardbook_[a-z0-9_]+")

ALERT_TESTS = """
rule_files: [alerts.yml]
evaluation_interval: 5s
tests:
  - interval: 5s
    input_series:
      - {series: 'shardbook_persister_lag_trades{shard="0"}', values: '0x6 60x6'}
      - {series: 'shardbook_ring_capacity_trades{shard="0"}', values: '100x12'}
      - {series: 'shardbook_up{role="matcher",shard="1"}', values: '1x4 0x8'}
      - {series: 'shardbook_matcher_journal_waits_total{shard="0"}', values: '0x6 1x6'}
    alert_rule_test:
      - {eval_time: 25s, alertname: ShardbookTradesNotLogged, exp_alerts: []}
      - eval_time: 55s
        alertname: ShardbookTradesNotLogged
        exp_alerts:
          - exp_labels: {severity: page, shard: "0"}
            exp_annotations:
              summary: Half of shard 0's trade ring waits for the log
              description: When the ring is full its matcher waits for the persister.
      - {eval_time: 20s, alertname: ShardbookProcessDown, exp_alerts: []}
      - eval_time: 50s
        alertname: ShardbookProcessDown
        exp_alerts:
          - exp_labels: {severity: page, role: matcher, shard: "1"}
            exp_annotations:
              summary: The matcher 1 does not serve
              description: >-
                A matcher that does not serve is recovering, waits for a full disk, or was halted by
                one that fails; `shardbook status` says which, its log says why.
      - {eval_time: 25s, alertname: ShardbookDiskFull, exp_alerts: []}
      - eval_time: 45s
        alertname: ShardbookDiskFull
        exp_alerts:
          - exp_labels: {severity: page, shard: "0"}
            exp_annotations:
              summary: Shard 0 waits for room on its disk
              description: Nothing is lost; its commands wait until there is room.
"""


def run(*command: str | Path) -> None:
    """Run a tool that must be content."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def tool(name: str) -> str:
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    found = shutil.which(name, path=places)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((CONFIGS / "grafana" / "shardbook.json").read_text())
    return read


def test_the_unit_is_what_systemd_takes(tmp_path: Path) -> None:
    text = (CONFIGS / "systemd" / "shardbook.service").read_text()
    assert text.count("/opt/shardbook/bin/shardbook") == 2
    unit = tmp_path / "shardbook.service"
    unit.write_text(text.replace("/opt/shardbook/bin/shardbook", "/bin/true"))
    run(tool("systemd-analyze"), "verify", "--man=no", unit)


def test_the_recipe_of_the_image_is_clean() -> None:
    run(tool("hadolint"), CONFIGS / "docker" / "Dockerfile")


@pytest.mark.servers
def test_prometheus_takes_scrape_and_alerts(tmp_path: Path) -> None:
    promtool = tool("promtool")
    run(promtool, "check", "config", CONFIGS / "prometheus" / "prometheus.yml")
    shutil.copy(CONFIGS / "prometheus" / "alerts.yml", tmp_path)
    tests = tmp_path / "tests.yml"
    tests.write_text(ALERT_TESTS)
    run(promtool, "test", "rules", tests)


def test_the_dashboard_is_what_grafana_takes() -> None:
    """Read by the types of Grafana's own description of a dashboard, and its panels lie apart."""
    sdk = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    plugins = pytest.importorskip("grafana_foundation_sdk.cog.plugins")
    plugins.register_default_plugins()
    read = sdk.Dashboard.from_json(dashboard())
    assert read.uid == "shardbook"
    assert all(panel.targets for panel in read.panels if panel.type_val != "row")
    taken: set[tuple[int, int]] = set()
    for panel in read.panels:
        place = panel.grid_pos
        cells = {
            (place.x + x, place.y + y) for x in range(int(place.w)) for y in range(int(place.h))
        }
        assert place.x + place.w <= 24
        assert not cells & taken, panel.title
        taken |= cells


def test_alerts_and_dashboard_name_figures_that_there_are() -> None:
    used = set(NAME.findall((CONFIGS / "prometheus" / "alerts.yml").read_text()))
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            used |= set(NAME.findall(target["expr"]))
    with serving(workers=1, extra='default_symbol = "AA"') as plan, Http(plan) as http:
        http.order("maker", "sell", 1, "100.00")
        crossing = {"user_id": "taker", "order_type": "limit", "side": "buy", "quantity": 1}
        crossing |= {"price": "100.00", "post_only": True}
        assert http.call("POST", f"{API}/orders", crossing).status == 409
        figures = http.call("GET", "/metrics").raw.decode()
    told = set(re.findall(r"^# HELP (shardbook_\w+)", figures, re.MULTILINE))
    told |= {f"{name}_bucket" for name in re.findall(r"^# TYPE (\w+) histogram", figures, re.M)}
    assert len(used) > 20
    assert not used - told
