"""The served description holds: schemathesis, made of it, finds nothing in the running product."""

import subprocess
import sys

from tests.http import serving

EXAMPLES = 15


def test_schemathesis_finds_nothing(seed: int) -> None:
    """Requests within the description may still be refused: ticks, lots and books decide."""
    with serving(extra='default_symbol = "AA"') as plan:
        assert plan.http_address is not None
        url = f"http://127.0.0.1:{plan.http_address.port}/openapi.json"
        arguments = [f"--max-examples={EXAMPLES}", f"--seed={seed}", "--no-color"]
        arguments += ["--exclude-checks=positive_data_acceptance", "--generation-database=none"]
        run = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", url, *arguments],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-8_000:] + run.stderr[-2_000:]
        assert "Tested: 3" in run.stdout, run.stdout[-2_000:]
