"""Trigger with the operator's launcher: from events to SparkApplications, on each API server there is.

Nobody carries the applications out here; the tests set their states as the operator does.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters.redis_shard import ShardStore
from tests.trigger.folding_without_spark import fold_pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.core.settings import Settings
    from tests.kubernetes_api.clusters import Cluster
    from tests.trigger.conftest import ServeTrigger, Trigger

CHANGED = "dev.knative.apiserver.resource.update"
ENDED = "2026-01-01T00:00:00Z"  # long ago: no pause after a failure


@pytest.fixture
def environment(cluster: Cluster) -> dict[str, str]:
    """Variables of a trigger in that cluster."""
    return {
        "FLYERTIME_LAUNCHER": "operator",
        "FLYERTIME_KUBECONFIG": str(cluster.kubeconfig),
        "FLYERTIME_KUBE_TIMEOUT_S": "10",
        "FLYERTIME_SPARK_NAMESPACE": cluster.namespace,
        "FLYERTIME_SPARK_IMAGE": "registry.example/spark:1",
        "FLYERTIME_SPARK_REDIS_SECRET": "redis-auth",
    }


@pytest.fixture
def fold(settings: Settings) -> Callable[[], None]:
    """Return what folds all that is pending, as a run does."""

    def commit() -> None:
        store = ShardStore(settings)
        fold_pending(store, [store.ledger(shard) for shard in range(store.shards())])
        store.close()

    return commit


def names(cluster: Cluster) -> list[str]:
    """Return the names of the applications."""
    return [application["metadata"]["name"] for application in cluster.applications()]


def end(cluster: Cluster, state: str, error: str = "") -> dict[str, Any]:
    """End the newest run in a state, and return it as an ApiServerSource shows it."""
    name = names(cluster)[-1]
    cluster.set_status(name, {"applicationState": {"state": state, "errorMessage": error}, "terminationTime": ENDED})
    return cluster.applications()[-1]


def test_a_backlog_becomes_an_application_and_its_end_is_heard_of(
    serve_trigger: ServeTrigger,
    environment: dict[str, str],
    cluster: Cluster,
    fill: Callable[[int], None],
    fold: Callable[[], None],
) -> None:
    """Events, a run, its chatty updates, events in the meantime, its end, the next run."""
    with serve_trigger(**environment) as trigger:
        fill(100)
        first = trigger.send()
        cluster.set_status(names(cluster)[0], {"applicationState": {"state": "RUNNING"}})
        chatty = trigger.send(CHANGED, cluster.applications()[0])
        during = trigger.send()
        fold()
        fill(100)
        second = trigger.send(CHANGED, end(cluster, "COMPLETED"))

    assert [(202, "launch"), (200, "wait"), (202, "launch")] == [
        (reply.status_code, reply.json()["decision"]) for reply in (first, during, second)
    ]
    assert (204, b"") == (chatty.status_code, chatty.content)
    assert "run_active" == during.json()["cause"]
    assert {first.json()["run"], second.json()["run"]} == set(names(cluster))


def test_two_triggers_at_once_create_one_application(
    serve_trigger: ServeTrigger, environment: dict[str, str], cluster: Cluster, fill: Callable[[int], None]
) -> None:
    """Two processes, sixteen events at the same time."""
    fill(100)
    with serve_trigger(**environment) as one, serve_trigger(**environment) as other, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda number: (one, other)[number % 2].send(event_id=str(number)), range(16)))

    assert 1 == sum(reply.json()["started"] for reply in replies)
    assert {200, 202} == {reply.status_code for reply in replies}
    assert 1 == len(names(cluster))


def test_a_failed_application_is_tried_again_until_the_attempts_are_used_up(
    serve_trigger: ServeTrigger, environment: dict[str, str], cluster: Cluster, fill: Callable[[int], None]
) -> None:
    """Each attempt is an application of its own; after the last one, trigger says loudly what to do."""
    with serve_trigger(**environment, FLYERTIME_MAX_ATTEMPTS="2") as trigger:
        fill(100)
        started = [trigger.send().json()["run"]]
        started.append(trigger.send(CHANGED, end(cluster, "FAILED", "no such image")).json()["run"])
        used_up = trigger.send(CHANGED, end(cluster, "FAILED", "no such image")).json()
        errors = [line for line in trigger.log.read_text().splitlines() if '"severity":"ERROR"' in line]

    assert started == names(cluster)
    assert [name.rpartition("-")[2] for name in started] == ["1", "2"]
    assert ("attempts_used_up", None) == (used_up["cause"], used_up["run"])
    assert "no such image" in used_up["explanation"]
    assert any("all 2 attempts" in line for line in errors)


def test_an_operator_that_does_not_watch_is_explained(
    serve_trigger: ServeTrigger, environment: dict[str, str], cluster: Cluster, fill: Callable[[int], None]
) -> None:
    """Who asks why nothing happens is asked back whether the namespace is watched; the log says so too."""
    with serve_trigger(**environment, FLYERTIME_SPARK_UNSEEN_S="1") as trigger:
        fill(100)
        trigger.send()
        explanation = until_explained(trigger, "watched by the operator")
        warned = '"severity":"WARNING"' in trigger.log.read_text()

    assert "run_active" == explanation["cause"]
    assert f"is the namespace {cluster.namespace} watched" in explanation["explanation"]
    assert warned


def until_explained(trigger: Trigger, text: str) -> Any:
    """Ping until the explanation says so, and return it."""
    for _ in range(200):
        explanation = trigger.ping()
        if text in explanation["explanation"]:
            return explanation
    raise AssertionError(explanation)


def test_who_may_not_is_not_asked_again(
    serve_trigger: ServeTrigger, environment: dict[str, str], cluster: Cluster, fill: Callable[[int], None]
) -> None:
    """A broker does not retry it; the reply, the explanation and the log say why."""
    fill(100)
    nobody = {**environment, "FLYERTIME_KUBECONFIG": str(cluster.kubeconfig_of_nobody)}
    with serve_trigger(**nobody) as trigger:
        reply, explanation = trigger.send(prefer="reply"), trigger.client.get("/")
        log = trigger.log.read_text()

    assert (424, "api_forbidden") == (reply.status_code, reply.json()["code"])
    assert (503, "api_forbidden") == (explanation.status_code, explanation.json()["code"])
    assert "role needs create, get and list" in log


def test_an_api_server_that_is_away_is_a_503_and_later_all_is_well(
    serve_trigger: ServeTrigger, environment: dict[str, str], cluster: Cluster, fill: Callable[[int], None]
) -> None:
    """The broker delivers the event again, and then the run is started, once."""
    fill(100)
    with serve_trigger(**environment) as trigger:
        cluster.gate.close()
        away = trigger.send(prefer="reply")
        cluster.gate.open_again()
        back = trigger.send(prefer="reply")

    assert (503, "2") == (away.status_code, away.headers["retry-after"])
    assert (204, b"") == (back.status_code, back.content)
    assert 1 == len(names(cluster))


def test_a_trigger_that_could_start_no_run_ends_at_start(
    serve_trigger: ServeTrigger, environment: dict[str, str]
) -> None:
    """A missing image is told by the pod that does not come up, not by the first run that is due."""
    with (
        pytest.raises(AssertionError, match="set FLYERTIME_SPARK_IMAGE"),
        serve_trigger(**{**environment, "FLYERTIME_SPARK_IMAGE": ""}),
    ):
        pass
