"""`flyertime verify`, `backfill` and the like: the job's own commands, with this folder's store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from functions.adapters.redis_checks import CheckedStore
from functions.cli import FOLDER
from functions.cli_history import COMMANDS
from functions.core.events import Event
from spark.main import COMMANDS as JOB_COMMANDS
from tests.fold_in_process import fold
from tests.spark.conftest import fill

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from functions.core.settings import Settings


def test_each_of_the_jobs_commands_is_one_of_flyertimes() -> None:
    """And none besides."""
    assert JOB_COMMANDS.keys() == COMMANDS.keys()


@pytest.mark.timeout(120)
def test_a_command_goes_to_the_store_of_the_stack_that_runs_here(
    settings: Settings, raw_redis: redis.Redis, tmp_path: Path
) -> None:
    """With all that stands behind it; its output and its exit status are the job's own."""
    fill(settings, [[Event(number, "u", "flyer_open", "f", "m") for number in (0, 10**9)]])
    store = CheckedStore(settings)
    fold(settings, store)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "stack.json").write_text(json.dumps({"redis_url": settings.redis_url}))
    environment = {name: value for name, value in os.environ.items() if name != "FLYERTIME_REDIS_URL"}
    environment["FLYERTIME_NAMESPACE"] = settings.namespace

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "functions", *arguments]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    right, nowhere, about = run("verify", "--quick"), run("verify", "--shard", "99"), run("backfill", "--help")
    for shard in range(store.shards()):
        raw_redis.hincrby(store.keys.ledger(shard), "accepted", 1)
    wrong = run("verify", "--quick")
    store.close()

    statuses = [done.returncode for done in (right, nowhere, about, wrong)]
    assert [0, 2, 0, 1] == statuses, right.stderr + nowhere.stderr + about.stderr
    assert "all fits" in right.stdout
    assert "the store has the shards" in nowhere.stderr
    assert "--rejects" in about.stdout
