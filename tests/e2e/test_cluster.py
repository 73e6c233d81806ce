"""The whole pipeline on a Redis Cluster of three nodes: ingest, trigger, a Spark run, report, and the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from functions.core.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import ServeFunction
    from tests.redis_cluster import EmbeddedCluster

pytestmark = pytest.mark.timeout(240)

USERS = 60
SHARDS = 12


def batch(user: int) -> list[dict[str, Any]]:
    """Return a user's open, and the close some minutes later, as CloudEvents."""
    fields = {"user_id": f"user-{user}", "flyer_id": "f1", "merchant_id": f"m{user % 2}"}
    moments = {"flyer_open": "2026-03-02T08:00:00Z", "flyer_close": f"2026-03-02T08:{user:02}:00Z"}
    return [
        {"specversion": "1.0", "id": f"{user}-{event}", "source": "/cluster", "type": "t",
         "data": {**fields, "event": event, "timestamp": moment}}
        for event, moment in moments.items()
    ]  # fmt: skip


def command(settings: Settings, *words: str, **environment: str) -> str:
    """Run ``flyertime`` with these settings; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "functions", *words],
        env={
            **os.environ,
            "FLYERTIME_REDIS_URL": settings.redis_url,
            "FLYERTIME_NAMESPACE": settings.namespace,
            **environment,
        },
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_events_are_in_the_report_after_a_spark_run(
    redis_cluster: EmbeddedCluster, serve_function: ServeFunction, tmp_path: Path
) -> None:
    """Events over all nodes, asked for by `flyertime flush`, folded by Spark, each once; `status` has the books."""
    settings = Settings(redis_url=redis_cluster.url, namespace="whole", shards=SHARDS)
    nodes = {redis_cluster.node_of(f"{{whole:{shard}}}:ledger") for shard in range(SHARDS)}
    local = {
        "FLYERTIME_LAUNCHER": "local",
        "FLYERTIME_LOCAL_RUNS_DIR": str(tmp_path),
        "FLYERTIME_SPARK_MASTER": "local[2]",
        "FLYERTIME_THRESHOLD_EVENTS": "1000000",
    }
    with (
        serve_function("ingest", settings) as ingest,
        serve_function("trigger", settings, **local) as trigger,
        serve_function("report", settings) as report,
        httpx2.Client(timeout=60, trust_env=False) as client,
    ):
        headers = {"content-type": "application/cloudevents-batch+json"}
        events = json.dumps([event for user in range(USERS) for event in batch(user)])
        answers = [client.post(ingest.url, content=events, headers=headers).json() for _ in range(2)]
        before = client.get(trigger.url).json()
        flushed = command(settings, "flush", "--wait", FLYERTIME_TRIGGER_URL=trigger.url)
        rows = client.get(report.url).json()
        deadline = time.monotonic() + 60
        while "succeeded" not in (status := command(settings, "status", "--trigger", trigger.url)):
            assert time.monotonic() < deadline, status  # the run puts itself on record at its end
        metrics = client.get(f"{ingest.url}/metrics").text

    assert {0, 1, 2} == nodes
    assert [(2 * USERS, 0), (0, 2 * USERS)] == [(answer["accepted"], answer["duplicate"]) for answer in answers]
    assert 2 * USERS == before["backlog"]["pending_events"]
    assert "folded; 0 events" in flushed
    expected = {f"user-{user}": round(user / 60 + 1e-9, 2) for user in range(USERS)}
    assert expected == {row["user_id"]: row["avg_time_on_flyer_per_user_hours"] for row in rows}
    assert f"{2 * USERS}        {2 * USERS}     {2 * USERS}        0" in status
    assert "flyertime_pending_events 0" in metrics
