"""The whole path with the operator's launcher: from events to the report, over a SparkApplication.

Nobody runs pods here: the test stands in for the operator, and runs the job exactly as the object says, in local mode.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pyspark
import pytest
from cloudevents.http import from_http

from functions.adapters import cloud_events
from functions.core.event_types import REPORT_UPDATED
from functions.core.settings import Settings
from functions.local.valkey import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import FunctionProcess, ServeFunction
    from tests.kubernetes_api.clusters import Cluster

pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).parents[2]
PASSWORD = "s3cret!"
SECRETS = {("redis-auth", "password"): PASSWORD}
"""What the cluster's Secrets hold."""
IMAGE_FILES = {"local:///opt/flyertime/spark/main.py": ROOT / "spark" / "main.py"}
"""Where files of the job's image are here."""


@pytest.fixture
def guarded_valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A store with a password."""
    with EmbeddedValkey(tmp_path / "valkey", config={"requirepass": PASSWORD}) as server:
        yield server


def visits(first: int, count: int, minutes: int) -> list[dict[str, Any]]:
    """Return opens and closes of users of their own, as CloudEvents."""
    events = []
    for user in range(first, first + count):
        for name, minute in (("flyer_open", 0), ("flyer_close", minutes)):
            data = {
                "timestamp": f"2026-03-02T08:{minute:02}:00Z",
                "user_id": f"user-{user}",
                "event": name,
                "flyer_id": "f",
                "merchant_id": "m",
            }
            events.append({"specversion": "1.0", "id": f"{user}-{name}", "source": "/e2e", "type": "app", "data": data})
    return events


def send(ingest: FunctionProcess, events: list[dict[str, Any]]) -> None:
    """Post a batch."""
    headers = {"content-type": "application/cloudevents-batch+json"}
    response = httpx2.post(ingest.url, content=json.dumps(events), headers=headers, timeout=30, trust_env=False)
    assert (202, len(events)) == (response.status_code, response.json()["accepted"])


def wait_for_application(cluster: Cluster, count: int) -> dict[str, Any]:
    """Wait until there are so many SparkApplications; return the newest, which has no state yet."""
    deadline_s = time.monotonic() + 30
    while len(applications := cluster.applications()) < count:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert count == len(applications)
    (newest,) = (application for application in applications if not application.get("status"))
    return newest


def run_as_told(application: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Submit what a SparkApplication says: main file, arguments, the driver's environment with its Secrets."""
    spec = application["spec"]
    environment = {}
    for variable in spec["driver"]["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        environment[variable["name"]] = SECRETS[reference["name"], reference["key"]] if reference else variable["value"]
    assert spec["executor"]["env"] == spec["driver"]["env"]
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    conf = [part for key, value in spec.get("sparkConf", {}).items() for part in ("--conf", f"{key}={value}")]
    local = ("--master", "local[2]", "--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.ui.enabled=false")
    main_file = str(IMAGE_FILES[spec["mainApplicationFile"]])
    return subprocess.run(
        [str(submit), *local, *conf, main_file, *spec["arguments"]],
        env={**environment, "PATH": os.environ["PATH"], "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def tell(trigger: FunctionProcess, cluster: Cluster, name: str) -> httpx2.Response:
    """Send trigger what an ApiServerSource sends when an object has changed, by way of a broker."""
    (application,) = (held for held in cluster.applications() if held["metadata"]["name"] == name)
    source = "https://kubernetes.default.svc:443"
    headers, body = cloud_events.new_event("dev.knative.apiserver.resource.update", source, application)
    return httpx2.post(trigger.url, headers={**headers, "prefer": "reply"}, content=body, timeout=30, trust_env=False)


def told_of(response: httpx2.Response) -> tuple[str, str]:
    """Return type and id of the event that a reply is."""
    event = from_http({**response.headers}, response.content)
    return event["type"], event["id"]


def test_from_events_to_the_report_over_a_spark_application(
    serve_function: ServeFunction, guarded_valkey: EmbeddedValkey, cluster: Cluster
) -> None:
    """A backlog creates a run; what comes meanwhile waits for its end, which wakes trigger; the report is right."""
    settings = Settings(redis_url=guarded_valkey.url, shards=2)
    operator = {
        "FLYERTIME_LAUNCHER": "operator",
        "FLYERTIME_KUBECONFIG": str(cluster.kubeconfig),
        "FLYERTIME_SPARK_NAMESPACE": cluster.namespace,
        "FLYERTIME_SPARK_IMAGE": "registry.example/spark:1",
        "FLYERTIME_SPARK_REDIS_SECRET": "redis-auth",
        "FLYERTIME_THRESHOLD_EVENTS": "40",
        "FLYERTIME_REDIS_PASSWORD": PASSWORD,
    }
    with serve_function("trigger", settings, **operator) as trigger:
        common = {"FLYERTIME_REDIS_PASSWORD": PASSWORD, "FLYERTIME_THRESHOLD_EVENTS": "40", "K_SINK": trigger.url}
        with (
            serve_function("ingest", settings, **common) as ingest,
            serve_function("report", settings, **common) as report,
        ):
            send(ingest, visits(0, 30, minutes=30))
            first = wait_for_application(cluster, 1)
            assert PASSWORD not in json.dumps(first)
            for state in ("SUBMITTED", "RUNNING"):
                cluster.set_status(first["metadata"]["name"], {"applicationState": {"state": state}})
                unheard = tell(trigger, cluster, first["metadata"]["name"])
                assert (204, b"") == (unheard.status_code, unheard.content)
            done = run_as_told(first)
            assert 0 == done.returncode, done.stderr
            send(ingest, visits(30, 30, minutes=45))
            assert 1 == len(cluster.applications())

            ended = {"applicationState": {"state": "COMPLETED"}, "terminationTime": "2026-01-01T00:00:00Z"}
            cluster.set_status(first["metadata"]["name"], ended)
            news = tell(trigger, cluster, first["metadata"]["name"])
            assert (REPORT_UPDATED, f"{first['metadata']['name']}-updated") == told_of(news)
            second = wait_for_application(cluster, 2)
            done = run_as_told(second)
            assert 0 == done.returncode, done.stderr
            cluster.set_status(second["metadata"]["name"], ended)
            news = tell(trigger, cluster, second["metadata"]["name"])
            assert (REPORT_UPDATED, f"{second['metadata']['name']}-updated") == told_of(news)

            rows = httpx2.get(report.url, timeout=30, trust_env=False).json()
            explained = httpx2.get(trigger.url, timeout=30, trust_env=False).json()

    expected = {f"user-{user}": 0.5 if user < 30 else 0.75 for user in range(60)}
    assert expected == {row["user_id"]: row["avg_time_on_flyer_per_user_hours"] for row in rows}
    assert "nothing_pending" == explained["cause"]
    assert 2 == len(explained["runs"])
