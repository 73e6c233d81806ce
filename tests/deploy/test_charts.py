"""The charts: valid for what they are applied to, strict about their values, fitting each other as they are."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec
import pytest
import yaml
from helm_python import Chart, HelmError, lint

from functions.core.access import sha256_of
from functions.core.read_access import ReadKey
from functions.core.settings import PREFIX, Settings, variable_of
from functions.core.spark_template import checked
from tests.deploy.container_environment import environment_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import ServeFunction

ROOT = Path(__file__).parents[2]
CHARTS = sorted(path.parent.name for path in (ROOT / "charts").glob("*/Chart.yaml"))
KEY_OF_ALL = ReadKey("all", sha256_of("ftr_all")).line
KEY_OF_A_MERCHANT = ReadKey("m", sha256_of("ftr_m"), "m").line

VALUES: list[Any] = [
    pytest.param("log-processing-api", {}, id="functions"),
    pytest.param(
        "log-processing-api",
        {
            "image": {"repository": "registry.example/functions", "tag": "1.2.3", "pullSecrets": ["mine"]},
            "spark": {"template": {"spec": {"driver": {"labels": {"a": "b"}}}}, "namespace": "jobs"},
            "redis": {"url": "rediss://store.example:6380/0", "existingSecret": "mine", "secretKey": "pw"},
            "settings": {"THRESHOLD_EVENTS": 100000, "NAMESPACE": "ads"},
            "ingest": {"minScale": 1, "clusterLocal": True},
            "report": {"clusterLocal": True},
            "eventing": {"deadLetterUri": "https://dead.example/"},
            "networkPolicy": {"enabled": False},
        },
        id="functions, other values",
    ),
    pytest.param("log-processing-api", {"redis": {"existingSecret": ""}}, id="functions, no password"),
    pytest.param("log-processing-api", {"redis": {"password": "p"}}, id="functions, password of their own"),
    pytest.param("redis", {}, id="redis"),
    pytest.param("redis", {"redis": {"password": "p"}, "persistence": {"storageClass": "ssd"}}, id="redis, password"),
    pytest.param(
        "redis",
        {"externalUrl": "rediss://store.example:6380/0", "redis": {"password": "p"}},
        id="redis elsewhere",
    ),
    pytest.param("redis", {"jobNamespace": "", "networkPolicy": {"enabled": False}}, id="redis for one namespace"),
    pytest.param("spark-cluster", {"operator": {"enabled": False}}, id="spark, operator there already"),
    pytest.param(
        "spark-cluster",
        {"operator": {"enabled": False}, "createNamespace": False, "jobNamespace": "jobs"},
        id="spark, namespace there already",
    ),
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
        ("log-processing-api", {"settings": {"THRESHOLD_EVENT": 1}}, "THRESHOLD_EVENT"),
        ("log-processing-api", {"settings": {"MAX_WAIT_S": 100}}, "MAX_WAIT_S"),
        ("log-processing-api", {"eventing": {"pingSchedule": "often"}}, "pingSchedule"),
        ("log-processing-api", {"report": {"pseudonyms": ""}}, "pseudonyms"),
        ("log-processing-api", {"report": {"pseudonyms": False}}, "pseudonyms"),
        ("redis", {"maxMemory": "2 GB"}, "maxMemory"),
        ("redis", {"appendFsync": "no"}, "appendFsync"),
        ("spark-cluster", {"jobNamespace": "Spark Jobs"}, "jobNamespace"),
        ("spark-cluster", {"jobNamespace": "jobs"}, "add it to spark-operator.spark.jobNamespaces"),
    ],
)
def test_a_wrong_value_is_refused_by_name(chart: str, values: dict[str, Any], words: str) -> None:
    """Before anything is installed, with the place of the mistake."""
    with pytest.raises(HelmError) as error:
        Chart.load(str(ROOT / "charts" / chart)).render(values, name="test", namespace="default")

    assert words in str(error.value)


def test_every_setting_can_be_given_but_those_that_the_chart_gives(render: Callable[..., list[Any]]) -> None:
    """The schema's list is that of the code: a misspelt one is refused, a new one is let through."""
    schema = json.loads((ROOT / "charts" / "log-processing-api" / "values.schema.json").read_text())
    documents = render(
        "log-processing-api",
        {"spark": {"template": {"spec": {}, "metadata": {}}}},
    )
    given = {variable for name in ("ingest", "trigger", "report") for variable in environment_of(documents, name)}
    elsewhere = {"K_SINK", "FLYERTIME_KUBECONFIG", "FLYERTIME_RUN_ENDED_SINK", "FLYERTIME_SPARK_MASTER"}
    settable = {variable_of(field) for field in dataclasses.fields(Settings)} - given - elsewhere

    assert schema["properties"]["settings"]["propertyNames"]["enum"] == sorted(
        name.removeprefix(PREFIX) for name in settable if not name.startswith("FLYERTIME_LOCAL_")
    )


@pytest.mark.parametrize(
    ("value", "text"), [(1_000_000, "1000000"), (8_388_608, "8388608"), (0.5, "0.5"), ("20000000", "20000000")]
)
def test_numbers_of_settings_arrive_as_they_were_written(
    value: object, text: str, render: Callable[..., list[Any]]
) -> None:
    """Not as 1e+06, which is no whole number."""
    environment = environment_of(render("log-processing-api", {"settings": {"MAX_BODY_BYTES": value}}), "ingest")

    assert text == environment["FLYERTIME_MAX_BODY_BYTES"]


@pytest.mark.parametrize(
    ("values", "secrets", "starts"),
    [
        ({}, {"flyertime-read-keys": KEY_OF_ALL}, True),
        ({}, {"flyertime-read-keys": f"{KEY_OF_ALL} {KEY_OF_A_MERCHANT}"}, False),
        ({}, {"flyertime-read-keys": KEY_OF_A_MERCHANT, "flyertime-pseudonyms": "0123456789abcdef" * 2}, True),
        ({"pseudonymSecret": "mine"}, {"flyertime-read-keys": KEY_OF_A_MERCHANT, "mine": "0123456789abcdef" * 2}, True),
        ({"pseudonymSecret": ""}, {"flyertime-read-keys": KEY_OF_A_MERCHANT}, False),
        ({"pseudonyms": "off"}, {"flyertime-read-keys": KEY_OF_A_MERCHANT}, True),
        ({"auth": "off"}, {}, True),
    ],
)
def test_partners_see_pseudonyms_unless_a_value_says_otherwise(
    values: dict[str, Any],
    secrets: dict[str, str],
    starts: bool,
    render: Callable[..., list[Any]],
    serve_function: ServeFunction,
    settings: Settings,
) -> None:
    """The report starts as its pod does with these Secrets, or its log says what to set."""
    environment = {}
    for name, value in environment_of(render("log-processing-api", {"report": values}), "report").items():
        if name in {"FUNCTION_TARGET", "FLYERTIME_REDIS_URL", "FLYERTIME_REDIS_PASSWORD"}:
            continue
        held = value if isinstance(value, str) else secrets.get(value["secretKeyRef"]["name"])
        if held is None:
            assert value["secretKeyRef"]["optional"], "else the pod would wait for it without a word"
        else:
            environment[name] = held
    if starts:
        with serve_function("report", settings, **environment) as process:
            assert 200 == httpx2.get(f"{process.url}/readyz", trust_env=False).status_code
        return
    with (
        pytest.raises(RuntimeError, match="FLYERTIME_PSEUDONYMS=off"),
        serve_function("report", settings, **environment),
    ):
        pass


def test_a_template_of_ones_own_reaches_trigger(render: Callable[..., list[Any]]) -> None:
    """Mounted where the setting says, as the code reads it; another one makes another revision."""
    templates = [{"spec": {"driver": {"labels": {"a": label}}}} for label in ("b", "c")]
    digests = []
    for template in templates:
        documents = render("log-processing-api", {"spark": {"template": template}})
        (configuration,) = (document for document in documents if document["kind"] == "ConfigMap")
        (trigger,) = (d for d in documents if d["kind"] == "Service" and d["metadata"]["name"] == "trigger")
        pod = trigger["spec"]["template"]["spec"]
        (mount,) = pod["containers"][0]["volumeMounts"]
        (volume,) = pod["volumes"]
        path = environment_of(documents, "trigger")["FLYERTIME_SPARK_TEMPLATE"]
        digests.append(trigger["spec"]["template"]["metadata"]["annotations"]["flyertime/spark-template-digest"])

        assert (mount["name"], volume["configMap"]["name"]) == (volume["name"], configuration["metadata"]["name"])
        held = configuration["data"][path.removeprefix(mount["mountPath"] + "/")]
        assert (template, []) == checked(msgspec.yaml.decode(held))
    assert 2 == len(set(digests))


def test_an_image_may_be_given_by_its_digest(render: Callable[..., list[Any]]) -> None:
    """In the tag's place."""
    documents = render("log-processing-api", {"image": {"tag": "sha256:abc"}})
    (report,) = (d for d in documents if d["kind"] == "Service" and d["metadata"]["name"] == "report")

    assert "ghcr.io/flyertime/functions@sha256:abc" == report["spec"]["template"]["spec"]["containers"][0]["image"]


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


def test_the_charts_fit_together_as_they_are(render: Callable[..., list[Any]]) -> None:
    """Names that one chart uses are made by another: Redis' service, its Secret, the runs' namespace, their account."""
    made = {
        (document["kind"], document["metadata"].get("namespace", "default"), document["metadata"]["name"])
        for chart, values in (("redis", {}), ("spark-cluster", {"operator": {"enabled": False}}))
        for document in render(chart, values)
    }
    functions = render("log-processing-api")
    environment = environment_of(functions, "trigger")
    jobs = environment["FLYERTIME_SPARK_NAMESPACE"]

    assert ("Namespace", "default", jobs) in made
    assert ("ServiceAccount", jobs, environment["FLYERTIME_SPARK_SERVICE_ACCOUNT"]) in made
    assert ("Secret", jobs, environment["FLYERTIME_SPARK_REDIS_SECRET"]) in made
    assert ("Secret", "default", environment["FLYERTIME_REDIS_PASSWORD"]["secretKeyRef"]["name"]) in made
    assert ("Service", "default", "redis") in made
    assert "redis://redis:6379/0" == environment["FLYERTIME_REDIS_URL"]
    assert "redis://redis.default.svc:6379/0" == environment["FLYERTIME_SPARK_REDIS_URL"]


def test_the_charts_own_test_passes_where_the_functions_answer(
    render: Callable[..., list[Any]], serve_function: ServeFunction, settings: Settings
) -> None:
    """What `helm test` runs, against functions here that ask for keys; it fails where one does not answer."""
    (pod,) = (document for document in render("log-processing-api") if document["kind"] == "Pod")
    (container,) = pod["spec"]["containers"]
    keys = {"FLYERTIME_READ_AUTH": "keys", "FLYERTIME_READ_KEYS": KEY_OF_ALL}
    with serve_function("ingest", settings) as ingest, serve_function("report", settings, **keys) as report:
        for report_url, expected in ((report.url, 0), (f"{report.url}/nowhere", 1)):
            command = [
                part.replace("http://ingest.default.svc.cluster.local", ingest.url.rstrip("/")).replace(
                    "http://report.default.svc.cluster.local", report_url.rstrip("/")
                )
                for part in container["command"]
            ]
            done = subprocess.run([sys.executable, *command[1:]], capture_output=True, timeout=60, check=False)

            assert "python" == command[0]
            assert expected == done.returncode, done.stderr
