"""The charts: valid for what they are applied to, strict about their values, fitting each other as they are."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from helm_python import Chart, HelmError, lint

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
CHARTS = sorted(path.parent.name for path in (ROOT / "charts").glob("*/Chart.yaml"))

VALUES: list[Any] = [
    pytest.param("log-processing-api", {}, id="functions"),
    pytest.param(
        "log-processing-api",
        {
            "image": {"repository": "registry.example/functions", "tag": "1.2.3"},
            "spark": {"template": {"spec": {"driver": {"labels": {"a": "b"}}}}, "namespace": "jobs"},
            "redis": {"url": "rediss://store.example:6380/0", "existingSecret": "mine", "secretKey": "pw"},
            "settings": {"THRESHOLD_EVENTS": 100000, "NAMESPACE": "ads"},
            "ingest": {"minScale": 1},
            "report": {"clusterLocal": True},
            "eventing": {"deadLetterUri": "https://dead.example/"},
            "networkPolicy": {"enabled": False},
        },
        id="functions, other values",
    ),
    pytest.param("log-processing-api", {"redis": {"existingSecret": ""}}, id="functions, no password"),
    pytest.param("redis", {}, id="redis"),
    pytest.param("redis", {"redis": {"password": "p"}, "persistence": {"storageClass": "ssd"}}, id="redis, password"),
    pytest.param("redis", {"externalUrl": "rediss://store.example:6380/0"}, id="redis elsewhere"),
    pytest.param("redis", {"jobNamespace": "", "networkPolicy": {"enabled": False}}, id="redis for one namespace"),
    pytest.param("spark-cluster", {"operator": {"enabled": False}}, id="spark, operator there already"),
]


@pytest.mark.parametrize(("chart", "values"), VALUES)
def test_every_object_is_valid(
    chart: str, values: dict[str, Any], render: Callable[..., list[Any]], check: Callable[[Any], None]
) -> None:
    """Against the schemas of Kubernetes and the models of Knative, no field of it unknown."""
    documents = render(chart, values)

    assert documents
    for document in documents:
        check(document)


@pytest.mark.parametrize("chart", CHARTS)
def test_helm_lint_finds_no_fault(chart: str) -> None:
    """But for the operator's chart, which is fetched when somebody installs."""
    result = lint(str(ROOT / "charts" / chart))
    serious = [message["error"] for message in result["messages"] if message["severity"] >= 2]

    assert [] == result["errors"]
    assert all("missing these dependencies: spark-operator" in error for error in serious)
    assert chart == "spark-cluster" or not serious


@pytest.mark.parametrize(
    ("chart", "values", "words"),
    [
        ("log-processing-api", {"redis": {"url": "redis://me:secret@host"}}, "/redis/url"),
        ("log-processing-api", {"ingest": {"minscale": 1}}, "minscale"),
        ("log-processing-api", {"ingest": {"minScale": -1}}, "minScale"),
        ("log-processing-api", {"settings": {"threshold": 1}}, "threshold"),
        ("log-processing-api", {"eventing": {"pingSchedule": "often"}}, "pingSchedule"),
        ("redis", {"maxMemory": "2 GB"}, "maxMemory"),
        ("redis", {"appendFsync": "no"}, "appendFsync"),
        ("spark-cluster", {"jobNamespace": "Spark Jobs"}, "jobNamespace"),
    ],
)
def test_a_wrong_value_is_refused_by_name(chart: str, values: dict[str, Any], words: str) -> None:
    """Before anything is installed, with the place of the mistake."""
    with pytest.raises(HelmError) as error:
        Chart.load(str(ROOT / "charts" / chart)).render(values, name="test", namespace="default")

    assert words in str(error.value)


def test_the_operators_values_reach_the_operator(tmp_path: Path) -> None:
    """With a stand-in of its chart's name and version in its place: Helm takes it and hands our values on.

    The real one is fetched by ``helm dependency build``, which needs the network.
    """
    chart = tmp_path / "spark-cluster"
    shutil.copytree(ROOT / "charts" / "spark-cluster", chart)
    stand_in = chart / "charts" / "spark-operator"
    (stand_in / "templates").mkdir(parents=True)
    (stand_in / "Chart.yaml").write_text("apiVersion: v2\nname: spark-operator\nversion: 2.5.2\n")
    (stand_in / "templates" / "values.yaml").write_text("values: {{ toJson .Values }}\n")
    rendered = Chart.load(str(chart)).render({}, name="spark-cluster", namespace="default")
    (text,) = (text for file, text in rendered.items() if file.endswith("spark-operator/templates/values.yaml"))
    values = yaml.safe_load(text)["values"]

    assert ["spark-jobs"] == values["spark"]["jobNamespaces"]
    assert (False, True) == (values["spark"]["serviceAccount"]["create"], values["webhook"]["enable"])


def test_the_password_is_the_same_in_both_namespaces_and_kept(render: Callable[..., list[Any]]) -> None:
    """Given or made up, functions and job read the same one; Helm leaves the Secrets where they are."""
    for values, expected in (({}, None), ({"redis": {"password": 'p"$\\'}}, 'p"$\\')):
        secrets = [document for document in render("redis", values) if document["kind"] == "Secret"]
        passwords = {base64.b64decode(secret["data"]["password"]).decode() for secret in secrets}

        assert ["default", "spark-jobs"] == [secret["metadata"].get("namespace", "default") for secret in secrets]
        assert 1 == len(passwords)
        assert expected in {None, *passwords}
        assert all(len(password) >= 4 for password in passwords)
        assert {"keep"} == {secret["metadata"]["annotations"]["helm.sh/resource-policy"] for secret in secrets}


def test_the_charts_fit_together_as_they_are(render: Callable[..., list[Any]]) -> None:
    """Names that one chart uses are made by another: Redis' service, its Secret, the runs' namespace, their account."""
    made = {
        (document["kind"], document["metadata"].get("namespace", "default"), document["metadata"]["name"])
        for chart, values in (("redis", {}), ("spark-cluster", {"operator": {"enabled": False}}))
        for document in render(chart, values)
    }
    functions = render("log-processing-api")
    (trigger,) = (d for d in functions if d["kind"] == "Service" and d["metadata"]["name"] == "trigger")
    environment = {
        variable["name"]: variable.get("value", variable.get("valueFrom"))
        for variable in trigger["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    jobs = environment["FLYERTIME_SPARK_NAMESPACE"]

    assert ("Namespace", "default", jobs) in made
    assert ("ServiceAccount", jobs, environment["FLYERTIME_SPARK_SERVICE_ACCOUNT"]) in made
    assert ("Secret", jobs, environment["FLYERTIME_SPARK_REDIS_SECRET"]) in made
    assert ("Secret", "default", environment["FLYERTIME_REDIS_PASSWORD"]["secretKeyRef"]["name"]) in made
    assert ("Service", "default", "redis") in made
    assert "redis://redis:6379/0" == environment["FLYERTIME_REDIS_URL"]
    assert "redis://redis.default.svc:6379/0" == environment["FLYERTIME_SPARK_REDIS_URL"]


def test_redis_lets_in_who_needs_it(render: Callable[..., list[Any]]) -> None:
    """The functions by their label, the job by its namespace, nobody else; and it never evicts."""
    redis = render("redis")
    (policy,) = (document for document in redis if document["kind"] == "NetworkPolicy")
    (configuration,) = (document for document in redis if document["kind"] == "ConfigMap")
    services = [
        d for d in render("log-processing-api") if d["kind"] == "Service" and d["metadata"]["name"] != "dead-letter"
    ]
    ours, jobs = policy["spec"]["ingress"][0]["from"]

    assert {"kubernetes.io/metadata.name": "spark-jobs"} == jobs["namespaceSelector"]["matchLabels"]
    for service in services:
        labels = service["spec"]["template"]["metadata"]["labels"]
        assert ours["podSelector"]["matchLabels"].items() <= labels.items()
    assert "maxmemory-policy noeviction" in configuration["data"]["valkey.conf"]
    assert "appendonly yes" in configuration["data"]["valkey.conf"]
