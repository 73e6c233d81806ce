"""The job's log says in whose trace it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from functions.core.settings import Settings

TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_each_line_has_the_trace_that_the_run_was_started_in(settings: Settings) -> None:
    """Before the level, so that what the launcher takes for the last words stays as it is."""
    environment = {
        **os.environ,
        "FLYERTIME_REDIS_URL": settings.redis_url,
        "FLYERTIME_NAMESPACE": settings.namespace,
        "TRACEPARENT": f"00-{TRACE}-b7ad6b7169203331-01",
    }
    result = subprocess.run(
        [sys.executable, "-m", "spark.main", "--run", "r"],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    lines = result.stderr.splitlines()
    assert lines
    assert all(f" trace_id={TRACE} INFO run r" in line for line in lines)
