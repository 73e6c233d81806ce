"""knative/: what the chart installs, valid, and in step with the code."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from functions.core import event_types, settings
from functions.core.environment import parse
from functions.core.settings import variable_of
from functions.core.spark_template import GROUP, KIND, MANAGED_BY, MANAGER, PLURAL, VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
FUNCTIONS = ("ingest", "trigger", "report")
KNOWN_VARIABLES = {variable_of(field) for field in dataclasses.fields(settings.Settings)} | {"FUNCTION_TARGET"}
Objects = dict[tuple[str, str], Any]


def container_of(knative: Objects, name: str) -> Any:
    """Return a function's container."""
    (container,) = knative["Service", name]["spec"]["template"]["spec"]["containers"]
    return container


def test_the_files_are_what_the_chart_installs() -> None:
    """Rendered with its default values; nothing is written by hand but kustomization.yaml."""
    spec = importlib.util.spec_from_file_location("render_manifests", ROOT / "scripts" / "render_manifests.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    held = {path.name: path.read_text() for path in (ROOT / "knative").glob("*.yaml")}
    del held["kustomization.yaml"]

    assert module.rendered() == held, "run `make manifests`"


def test_kustomize_takes_every_file() -> None:
    """None is forgotten, none is named that is not there."""
    kustomization = yaml.safe_load((ROOT / "knative" / "kustomization.yaml").read_text())

    assert sorted(kustomization["resources"]) == sorted(
        path.name for path in (ROOT / "knative").glob("*.yaml") if path.name != "kustomization.yaml"
    )


def test_every_object_is_valid(knative: Objects, check: Callable[[Any], None]) -> None:
    """Strictly, each against its published schema."""
    for document in knative.values():
        check(document)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_kn_can_apply_each_function(name: str) -> None:
    """`kn service apply -f` reads the first document of a file, and that must be a Service of Knative's."""
    (document,) = yaml.safe_load_all((ROOT / "knative" / f"{name}.yaml").read_text())

    assert ("serving.knative.dev/v1", "Service", name) == (
        document["apiVersion"],
        document["kind"],
        document["metadata"]["name"],
    )
    assert "namespace" not in document["metadata"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_variable_is_one_that_the_function_reads(knative: Objects, name: str) -> None:
    """And each file starts its own function."""
    environment = {variable["name"]: variable for variable in container_of(knative, name)["env"]}

    assert set() == environment.keys() - KNOWN_VARIABLES
    assert name == environment["FUNCTION_TARGET"]["value"]
    values = {key: variable["value"] for key, variable in environment.items() if "value" in variable}
    assert parse(values)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_probes_and_port_are_those_that_the_app_serves(knative: Objects, name: str) -> None:
    """Health routes of functions/asgi.py, and the port of the image."""
    container = container_of(knative, name)
    routes = (ROOT / "functions" / "asgi.py").read_text()
    port = re.search(r"PORT=(\d+)", (ROOT / "functions" / "Dockerfile").read_text())

    for probe in ("readinessProbe", "livenessProbe"):
        assert f'"{container[probe]["httpGet"]["path"]}"' in routes
    assert port is not None
    assert [{"containerPort": int(port[1])}] == container["ports"]
    assert int(port[1]) == container["livenessProbe"]["httpGet"]["port"]


@pytest.mark.parametrize("name", [*FUNCTIONS, "dead-letter"])
def test_every_container_is_as_confined_as_can_be(knative: Objects, name: str) -> None:
    """Not root, nothing to write, no rights to gain."""
    context = container_of(knative, name)["securityContext"]

    assert (True, False, True) == (
        context["runAsNonRoot"],
        context["allowPrivilegeEscalation"],
        context["readOnlyRootFilesystem"],
    )
    assert ({"drop": ["ALL"]}, {"type": "RuntimeDefault"}) == (context["capabilities"], context["seccompProfile"])


def test_waiting_requests_are_not_cut_off(knative: Objects) -> None:
    """Knative's time-out is above the longest that ingest holds a request."""
    timeout_s = knative["Service", "ingest"]["spec"]["template"]["spec"]["timeoutSeconds"]

    assert settings.Settings().max_wait_s < timeout_s


def test_trigger_is_told_of_the_events_that_it_acts_on(knative: Objects) -> None:
    """The filter's types are the constants of core, and all but the ones of the local launcher and of new objects."""
    (filters,) = knative["Trigger", "wake-trigger"]["spec"]["filters"]
    types = {item["exact"]["type"] for item in filters["any"]}
    changed = {name for name in event_types.RUN_OBJECT_CHANGED if name.endswith(("resource.update", "resource.delete"))}

    assert {event_types.BACKLOG_REACHED, event_types.FLUSH_REQUESTED, event_types.PING, *changed} == types


def test_events_go_where_they_are_heard(knative: Objects) -> None:
    """Ingest's sink and both sources lead to the broker, its trigger to the function, failures to a service."""
    broker = knative["Broker", "flyertime"]
    trigger = knative["Trigger", "wake-trigger"]
    sink = next(
        variable["value"] for variable in container_of(knative, "ingest")["env"] if variable["name"] == "K_SINK"
    )

    assert "http://broker-ingress.knative-eventing.svc.cluster.local/default/flyertime" == sink
    assert "flyertime" == trigger["spec"]["broker"] == broker["metadata"]["name"]
    assert ("Service", trigger["spec"]["subscriber"]["ref"]["name"]) in knative
    for source in (knative["PingSource", "ping"], knative["ApiServerSource", "flyertime-runs"]):
        assert ("Broker", source["spec"]["sink"]["ref"]["name"]) in knative
    for delivery in (broker["spec"]["delivery"], trigger["spec"]["delivery"]):
        assert delivery["retry"] > 0
        assert ("Service", delivery["deadLetterSink"]["ref"]["name"]) in knative


def test_trigger_may_do_what_its_launcher_does_and_no_more(knative: Objects) -> None:
    """Create, get and list SparkApplications in the runs' namespace; the code calls nothing else."""
    role = knative["Role", "flyertime-trigger"]
    calls = set(
        re.findall(r"\b(\w+)_namespaced_custom_object", (ROOT / "functions/adapters/spark_operator.py").read_text())
    )

    assert [{"apiGroups": [GROUP], "resources": [PLURAL], "verbs": ["create", "get", "list"]}] == role["rules"]
    assert {"create", "get", "list"} == calls
    assert "spark-jobs" == role["metadata"]["namespace"]


def test_accounts_and_roles_that_are_named_exist(knative: Objects) -> None:
    """Each binding joins an account and a role of these files; each function runs under one of them."""
    accounts = {name for kind, name in knative if kind == "ServiceAccount"}
    for (kind, _), document in knative.items():
        if kind == "RoleBinding":
            assert ("Role", document["roleRef"]["name"]) in knative
            assert {subject["name"] for subject in document["subjects"]} <= accounts
        if kind == "Service":
            assert document["spec"]["template"]["spec"]["serviceAccountName"] in accounts
    assert knative["ApiServerSource", "flyertime-runs"]["spec"]["serviceAccountName"] in accounts


def test_only_trigger_has_a_token(knative: Objects) -> None:
    """Neither ingest nor report has any business with Kubernetes."""
    assert knative["ServiceAccount", "flyertime-functions"]["automountServiceAccountToken"] is False
    for name in ("ingest", "report"):
        account = knative["Service", name]["spec"]["template"]["spec"]["serviceAccountName"]
        assert "flyertime-functions" == account


def test_the_source_watches_the_runs_that_trigger_creates(knative: Objects) -> None:
    """By kind and label."""
    (watched,) = knative["ApiServerSource", "flyertime-runs"]["spec"]["resources"]

    assert (f"{GROUP}/{VERSION}", KIND) == (watched["apiVersion"], watched["kind"])
    assert {MANAGED_BY: MANAGER} == watched["selector"]["matchLabels"]


def test_trigger_is_not_reachable_from_outside(knative: Objects) -> None:
    """No public route, and only Knative's own namespaces get through to its pods."""
    labels = knative["Service", "trigger"]["metadata"]["labels"]
    policy = knative["NetworkPolicy", "flyertime-trigger"]["spec"]
    pods = knative["Service", "trigger"]["spec"]["template"]["metadata"]["labels"]

    assert "cluster-local" == labels["networking.knative.dev/visibility"]
    assert policy["podSelector"]["matchLabels"].items() <= pods.items()
    assert "namespaceSelector" in policy["ingress"][0]["from"][0]
