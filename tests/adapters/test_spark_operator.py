"""Runs as SparkApplications: created once, read by label, and every answer of the API server told for what it means.

Tests with the fixture ``cluster`` run against each API server there is; see tests/kubernetes_api/clusters.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from kubeflow_spark_api.models.spark_v1beta2_spark_application import SparkV1beta2SparkApplication

from functions.adapters import spark_operator
from functions.adapters.spark_operator import OperatorLauncher
from functions.core.errors import MisconfiguredError, UnavailableError
from functions.core.policy import Run, RunState
from functions.core.settings import Settings
from tests.adapters.operator_runs import DIGEST, NAME, TIMEOUT_S, launch_of, runs, start, using
from tests.kubernetes_api.fake import resource_schema
from tests.kubernetes_api.gate import Way

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.kubernetes_api.clusters import Cluster


def settings_for(cluster: Cluster, **changes: Any) -> Settings:
    """Return trigger's settings for a cluster."""
    settings = Settings(
        kubeconfig=str(cluster.kubeconfig),
        kube_timeout_s=TIMEOUT_S,
        spark_namespace=cluster.namespace,
        spark_image="registry.example/spark:1",
        redis_url="redis://redis:6379",
    )
    return dataclasses.replace(settings, **changes)


def test_a_run_is_created(cluster: Cluster) -> None:
    """As a valid SparkApplication under the run's name, with no field that anybody does not know."""
    assert start(settings_for(cluster))

    (application,) = cluster.applications()
    assert (NAME, cluster.namespace) == (application["metadata"]["name"], application["metadata"]["namespace"])
    assert ["--run", NAME] == application["spec"]["arguments"]
    jsonschema.validate(application, resource_schema())
    spec = SparkV1beta2SparkApplication.model_validate(application).model_dump(by_alias=True, exclude_none=True)["spec"]
    assert application["spec"] == spec


def test_a_run_is_created_once(cluster: Cluster) -> None:
    """Whoever comes second is told that it exists, which is a success; nothing of it is changed."""
    first = start(settings_for(cluster))
    before = cluster.applications()
    second = start(settings_for(cluster, driver_cores=3))

    assert (True, False) == (first, second)
    assert before == cluster.applications()


def test_of_many_at_once_one_creates_the_run(cluster: Cluster) -> None:
    """Two launchers, eight calls each, all at the same time."""

    async def race() -> list[bool]:
        launchers = [OperatorLauncher(settings_for(cluster, kube_timeout_s=20.0)) for _ in range(2)]
        started = await asyncio.gather(*(launcher.launch(launch_of()) for launcher in launchers * 8))
        for launcher in launchers:
            await launcher.close()
        return started

    assert 1 == sum(asyncio.run(race()))
    assert 1 == len(cluster.applications())


def test_runs_are_told_with_what_became_of_them(cluster: Cluster) -> None:
    """Digest, attempt, state, end and reason, from labels and status."""
    for attempt in (1, 2, 3):
        start(settings_for(cluster), attempt)
    ended = "2026-01-01T00:00:10Z"
    failed = {"state": "FAILED", "errorMessage": "driver container failed with ExitCode: 75"}
    cluster.set_status(launch_of(1).name, {"applicationState": failed, "terminationTime": ended})
    cluster.set_status(
        launch_of(2).name, {"applicationState": {"state": "COMPLETED"}, "terminationTime": "2026-01-01T00:00:20Z"}
    )
    cluster.set_status(launch_of(3).name, {"applicationState": {"state": "RUNNING"}, "terminationTime": None})

    found = sorted(runs(settings_for(cluster)), key=lambda run: run.attempt)

    ended_ms = 1_767_225_610_000
    assert [
        Run(launch_of(1).name, DIGEST, 1, RunState.FAILED, ended_ms, "driver container failed with ExitCode: 75"),
        Run(launch_of(2).name, DIGEST, 2, RunState.SUCCEEDED, ended_ms + 10_000),
        Run(launch_of(3).name, DIGEST, 3, RunState.ACTIVE),
    ] == found


def test_all_pages_of_the_list_are_read(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """An active run is not missed because many have ended."""
    monkeypatch.setattr(spark_operator, "_PAGE", 2)
    for attempt in range(1, 6):
        start(settings_for(cluster), attempt)

    assert [1, 2, 3, 4, 5] == sorted(run.attempt for run in runs(settings_for(cluster)))


def test_the_runs_of_others_are_not_ours(cluster: Cluster) -> None:
    """Neither another pipeline's nor an application of somebody else."""
    start(settings_for(cluster, namespace="other"))
    application = cluster.applications()[0]
    cluster.add({**application, "metadata": {"name": "by-hand", "namespace": cluster.namespace}})

    assert [] == runs(settings_for(cluster))
    assert [NAME] == [run.name for run in runs(settings_for(cluster, namespace="other"))]


def test_a_name_that_somebody_else_has_is_not_taken_for_ours(cluster: Cluster) -> None:
    """It would look as if the run had been started; the error says how to go on."""
    start(settings_for(cluster, namespace="other"))

    with pytest.raises(MisconfiguredError, match="choose another FLYERTIME_RUN_NAME_PREFIX"):
        start(settings_for(cluster))


def test_a_run_that_no_operator_takes_up_is_explained(cluster: Cluster) -> None:
    """It stays active, and the message asks for the operator and its namespaces."""
    start(settings_for(cluster))
    (early,), (late,) = (
        runs(settings_for(cluster), lambda: time.time() + after_s)  # noqa: B023  # used at once
        for after_s in (0, 300)
    )

    assert (RunState.ACTIVE, "") == (early.state, early.message)
    assert RunState.ACTIVE is late.state
    assert f"is the namespace {cluster.namespace} watched by the operator" in late.message


def test_a_deleted_run_has_gone(cluster: Cluster) -> None:
    """As if it had never been, and its name is free."""
    start(settings_for(cluster))
    cluster.delete(NAME)

    assert [] == runs(settings_for(cluster))
    assert start(settings_for(cluster))


@pytest.mark.parametrize("work", [start, runs])
def test_who_may_not_is_told_so(cluster: Cluster, work: Callable[[Settings], object]) -> None:
    """Only a person can mend that; the message has the API server's reason and the rights that are needed."""
    settings = settings_for(cluster, kubeconfig=str(cluster.kubeconfig_of_nobody))

    with pytest.raises(MisconfiguredError, match=r"forbids it \(.*is forbidden.*role needs create, get and list"):
        work(settings)


def test_what_the_api_server_does_not_know_is_told(cluster: Cluster, tmp_path: Path) -> None:
    """A misspelt field of the template is refused, not silently dropped."""
    if not cluster.validates_fields:
        pytest.skip("an API server before Kubernetes 1.25 drops unknown fields; the chart asks for 1.29")
    template = tmp_path / "template.yaml"
    template.write_text("spec:\n  driver:\n    memroy: 2g\n")

    with pytest.raises(MisconfiguredError, match="memroy"):
        start(settings_for(cluster, spark_template=str(template)))

    assert [] == cluster.applications()


def test_what_the_api_server_finds_invalid_is_told(cluster: Cluster, tmp_path: Path) -> None:
    """A field of a wrong type, which our own rules leave to it."""
    template = tmp_path / "template.json"
    template.write_text(json.dumps({"spec": {"deps": "none"}}))

    with pytest.raises(MisconfiguredError, match=r"refuses it with 4(00|22) \(.*deps"):
        start(settings_for(cluster, spark_template=str(template)))


@pytest.mark.parametrize("call", ["launch", "runs"])
@pytest.mark.parametrize("way", [Way.SILENT, Way.SLOW, Way.BROKEN])
def test_a_server_in_trouble_is_asked_again_later(cluster: Cluster, way: Way, call: str) -> None:
    """It is asked once, nobody waits longer than the setting says, and the next call finds the server well."""

    async def through(launcher: OperatorLauncher) -> tuple[float, int, object]:
        def ask() -> Awaitable[object]:
            return launcher.runs() if call == "runs" else launcher.launch(launch_of(2))

        await launcher.launch(launch_of(1))  # it has a connection that has worked
        cluster.gate.put(way)
        before = cluster.gate.connections
        started_s = time.monotonic()
        with pytest.raises(UnavailableError):
            await ask()
        waited_s, connections = time.monotonic() - started_s, cluster.gate.connections - before
        cluster.gate.put(Way.OPEN)
        return waited_s, connections, await ask()

    waited_s, connections, answer = using(settings_for(cluster), through)

    assert waited_s < TIMEOUT_S + 1
    assert 1 == connections
    assert answer is not None


def test_a_restart_of_the_server_is_survived(cluster: Cluster) -> None:
    """One launcher before, during and after it; its broken connections are its own matter."""

    async def through(launcher: OperatorLauncher) -> tuple[bool, bool, int]:
        first = await launcher.launch(launch_of(1))
        cluster.gate.close()
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await launcher.runs()
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await launcher.launch(launch_of(2))
        cluster.gate.open_again()
        return first, await launcher.launch(launch_of(2)), len(await launcher.runs())

    assert (True, True, 2) == using(settings_for(cluster), through)
