"""The SparkApplication of a run: valid for the operator, ours where it must be, theirs where it may be."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubeflow_spark_api.models.spark_v1beta2_spark_application import SparkV1beta2SparkApplication

from functions.core import environment
from functions.core.errors import MisconfiguredError
from functions.core.policy import Cause, Launch
from functions.core.settings import Settings
from functions.core.spark_application import JOB_SETTINGS, build
from functions.core.spark_application_rules import DENIED_CONF
from functions.core.spark_template import merged
from tests.kubernetes_api.fake import resource_schema

ROOT = Path(__file__).parents[2]
LAUNCH = Launch("flyertime-0123456789ab-2", "0123456789ab", 2, 70_000, Cause.THRESHOLD, "enough")
PLAIN = Settings(redis_url="redis://redis.flyertime:6379/0", spark_image="registry.example/spark:1")
SCHEMA = resource_schema()
TEMPLATE: dict[str, Any] = {
    "apiVersion": "sparkoperator.k8s.io/v1beta2",
    "kind": "SparkApplication",
    "metadata": {"labels": {"team": "ads"}, "annotations": {"sidecar.istio.io/inject": "false"}},
    "spec": {
        "image": "registry.example/other@sha256:12",
        "sparkConf": {"spark.eventLog.enabled": "true"},
        "driver": {"coreRequest": "250m", "tolerations": [{"key": "spot", "operator": "Exists"}]},
        "executor": {
            "memory": "4g",
            "memoryOverhead": None,
            "nodeSelector": {"pool": "spark"},
            "env": [{"name": "FLYERTIME_ROUND_EVENTS", "value": "5"}, {"name": "TZ", "value": "UTC"}],
        },
        "volumes": [{"name": "spark-local-dir-1", "emptyDir": {}}],
    },
}


def variables(application: dict[str, Any], pod: str) -> dict[str, Any]:
    """Return a pod's environment by name."""
    listed = application["spec"][pod]["env"]
    found = {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in listed}
    assert len(listed) == len(found)
    return found


def check(application: dict[str, Any]) -> None:
    """Check an application against the resource's rules and the published models, no field of it unknown."""
    jsonschema.validate(application, SCHEMA)
    model = SparkV1beta2SparkApplication.model_validate(application)
    assert application == model.model_dump(by_alias=True, exclude_none=True)


@pytest.mark.parametrize(
    ("settings", "template"),
    [
        pytest.param(PLAIN, None, id="plain"),
        pytest.param(PLAIN, {}, id="empty template"),
        pytest.param(PLAIN, TEMPLATE, id="template"),
        pytest.param(dataclasses.replace(PLAIN, max_executors=9), None, id="dynamic allocation"),
        pytest.param(dataclasses.replace(PLAIN, spark_redis_secret="redis", shards=8), TEMPLATE, id="password"),
        pytest.param(
            dataclasses.replace(
                PLAIN, spark_node_selector="pool=spark", spark_conf='{"a.b": "1,2"}', spark_labels="team=ads,env=prod"
            ),
            None,
            id="placement, configuration, labels",
        ),
    ],
)
def test_the_operator_takes_it(settings: Settings, template: object) -> None:
    """It keeps to the resource's schema and to the published models, and a round trip loses nothing."""
    check(build(LAUNCH, settings, template))


def test_it_is_found_by_its_labels_and_named_by_its_run() -> None:
    """Name, namespace, labels and annotations say what it is for."""
    metadata = build(LAUNCH, dataclasses.replace(PLAIN, spark_labels="team=ads"))["metadata"]

    assert ("flyertime-0123456789ab-2", "spark-jobs") == (metadata["name"], metadata["namespace"])
    assert {
        "app.kubernetes.io/name": "flyertime",
        "app.kubernetes.io/managed-by": "flyertime-trigger",
        "flyertime/pipeline": "ft",
        "flyertime/backlog": "0123456789ab",
        "flyertime/attempt": "2",
        "team": "ads",
    } == metadata["labels"]
    assert {"flyertime/cause": "threshold_reached", "flyertime/pending-events": "70000"} == metadata["annotations"]


@pytest.mark.parametrize("namespace", ["", "a b", "ü", "x" * 64, "-", "{ft}"])
def test_a_namespace_that_is_no_label_is_told_apart_all_the_same(namespace: str) -> None:
    """Keys may be named as labels may not."""
    label = build(LAUNCH, dataclasses.replace(PLAIN, namespace=namespace))["metadata"]["labels"]["flyertime/pipeline"]
    other = build(LAUNCH, dataclasses.replace(PLAIN, namespace="ö"))["metadata"]["labels"]["flyertime/pipeline"]

    assert re.fullmatch(r"[a-z0-9]{1,63}", label)
    assert label != other


def test_a_run_is_told_its_name_and_is_never_restarted() -> None:
    """Trigger tries again itself."""
    spec = build(LAUNCH, PLAIN)["spec"]

    assert ["--run", LAUNCH.name] == spec["arguments"]
    assert {"type": "Never"} == spec["restartPolicy"]
    assert PLAIN.spark_ttl_s == spec["timeToLiveSeconds"]


def test_an_executors_memory_outside_the_jvm_follows_from_its_rounds() -> None:
    """By the rule of spark_sizing, for each core."""
    executor = build(LAUNCH, dataclasses.replace(PLAIN, executor_cores=4, round_events=200_000))["spec"]["executor"]

    assert (4, "3200m") == (executor["cores"], executor["memoryOverhead"])


def test_a_large_backlog_begins_with_more_executors() -> None:
    """By the rule of spark_sizing, within the bounds that the settings give."""
    launch = dataclasses.replace(LAUNCH, pending_events=5_000_000)
    allocation = build(launch, dataclasses.replace(PLAIN, max_executors=9))["spec"]["dynamicAllocation"]

    assert {"enabled": True, "initialExecutors": 5, "minExecutors": 2, "maxExecutors": 9} == allocation


@pytest.mark.parametrize("pod", ["driver", "executor"])
def test_the_job_has_triggers_settings(pod: str) -> None:
    """Driver and executors know the store as trigger does, or as their own namespace does."""
    settings = dataclasses.replace(PLAIN, namespace="shop", shards=8, redis_timeout_s=3.5)
    there = dataclasses.replace(settings, spark_redis_url="rediss://elsewhere:6380")
    here = variables(build(LAUNCH, settings), pod)

    assert environment.parse({name: str(value) for name, value in here.items()}) == Settings(
        redis_url=PLAIN.redis_url, namespace="shop", shards=8, redis_timeout_s=3.5
    )
    assert "rediss://elsewhere:6380" == variables(build(LAUNCH, there), pod)["FLYERTIME_REDIS_URL"]


def test_every_setting_that_the_job_reads_is_handed_on() -> None:
    """What the job's code takes from its settings is in its environment on the cluster."""
    sources = [
        *(ROOT / "spark").glob("*.py"),
        *(ROOT / "functions" / "adapters" / name for name in ("redis_client.py", "redis_shard.py")),
    ]
    read = {name for source in sources for name in re.findall(r"settings\.([a-z]\w+)", source.read_text())}
    fields = {field.name for field in dataclasses.fields(Settings)}

    # The password comes from a Secret, the master from spark-submit; trigger starts no backfill; appends are ingest's.
    apart = {"redis_password", "spark_master", "max_field_bytes", "max_future_s"}
    apart |= {"durability", "durability_timeout_s"}
    apart |= {"dedupe_window_s"}  # trigger starts no resharding either
    assert {"redis_url", "round_events"} < read & fields <= {*JOB_SETTINGS, *apart}


@pytest.mark.parametrize("pod", ["driver", "executor"])
def test_the_password_comes_from_a_secret(pod: str) -> None:
    """It is nowhere in the object, and neither is trigger's own."""
    settings = dataclasses.replace(
        PLAIN, redis_password="hunter2", spark_redis_secret="redis-auth", spark_redis_secret_key="pw"
    )
    application = build(LAUNCH, settings, TEMPLATE)

    reference = {"secretKeyRef": {"name": "redis-auth", "key": "pw"}}
    assert reference == variables(application, pod)["FLYERTIME_REDIS_PASSWORD"]
    assert "hunter2" not in json.dumps(application)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"redis_url": "redis://:hunter2@redis:6379"}, "FLYERTIME_REDIS_URL must not hold the password"),
        ({"redis_url": "redis://redis?password=hunter2"}, "FLYERTIME_REDIS_URL must not hold the password"),
        ({"spark_redis_url": "redis://u:hunter2@redis"}, "FLYERTIME_SPARK_REDIS_URL must not hold the password"),
        ({"redis_password": "hunter2"}, "set FLYERTIME_SPARK_REDIS_SECRET to the name of a Secret"),
    ],
)
def test_a_password_that_would_show_is_refused(changes: dict[str, str], reason: str) -> None:
    """The error says where it belongs, and does not show it either."""
    with pytest.raises(MisconfiguredError, match=reason) as caught:
        build(LAUNCH, dataclasses.replace(PLAIN, **changes))  # type: ignore[arg-type]  # texts, all of them

    assert "hunter2" not in caught.value.message


def test_the_template_has_the_last_word() -> None:
    """It overrides, adds, and with null removes; what it does not name stays."""
    spec = build(LAUNCH, PLAIN, TEMPLATE)["spec"]

    assert "registry.example/other@sha256:12" == spec["image"]
    assert ("250m", 1, "flyertime-spark") == tuple(
        spec["driver"][name] for name in ("coreRequest", "cores", "serviceAccount")
    )
    assert ("4g", {"pool": "spark"}) == (spec["executor"]["memory"], spec["executor"]["nodeSelector"])
    assert "memoryOverhead" not in spec["executor"]
    assert {"spark.eventLog.enabled": "true"} == spec["sparkConf"]


def test_variables_are_joined_by_name() -> None:
    """A template's list of variables adds to ours instead of replacing it."""
    found = variables(build(LAUNCH, PLAIN, TEMPLATE), "executor")

    assert ("5", "UTC", PLAIN.redis_url) == (
        found["FLYERTIME_ROUND_EVENTS"],
        found["TZ"],
        found["FLYERTIME_REDIS_URL"],
    )


def test_building_changes_no_template() -> None:
    """The same template serves the next run."""
    before = json.dumps(TEMPLATE)
    first, second = build(LAUNCH, PLAIN, TEMPLATE), build(dataclasses.replace(LAUNCH, attempt=3), PLAIN, TEMPLATE)

    assert before == json.dumps(TEMPLATE)
    assert ("2", "3") == tuple(made["metadata"]["labels"]["flyertime/attempt"] for made in (first, second))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ([], "must hold one object"),
        ({"kind": "ScheduledSparkApplication"}, "kind must be SparkApplication"),
        ({"apiVersion": "spark.apache.org/v1"}, "apiVersion must be sparkoperator.k8s.io/v1beta2"),
        ({"status": {}}, "the template has a field 'status'"),
        ({"spec": []}, "the template's spec must be an object"),
        ({"metadata": {"name": "mine"}}, "must not set metadata.name: flyertime does"),
        ({"metadata": {"labels": {"flyertime/pipeline": "x"}}}, "must not set the label flyertime/pipeline"),
        ({"spec": {"arguments": ["--all"]}}, "must not set spec.arguments"),
        ({"spec": {"restartPolicy": {"type": "Always"}}}, "must not set spec.restartPolicy"),
        ({"spec": {"mode": "client"}}, "must not set spec.mode"),
        ({"spec": {"timeToLiveSeconds": None}}, "spec.timeToLiveSeconds must be a whole number"),
        ({"spec": {"driver": {"cores": "2"}}}, "spec.driver.cores must be a whole number of at least 1"),
        ({"spec": {"executor": {"instances": 0}}}, "spec.executor.instances must be a whole number of at least 1"),
        ({"spec": {"executor": {"memory": "2Gi"}}}, r"spec.executor.memory must be as a JVM wants it.*not 2Gi"),
        ({"spec": {"executor": None}}, "spec.executor must be an object"),
        ({"spec": {"sparkConf": {"a": 1}}}, "spec.sparkConf: a must be a text; put it in quotes"),
        ({"spec": {"sparkConf": {"spark.executorEnv.FLYERTIME_REDIS_PASSWORD": "x"}}}, "must not hold FLYERTIME_REDIS"),
        ({"spec": {"sparkVersion": 4.0}}, "spec.sparkVersion must be a text"),
        ({"spec": {"imagePullPolicy": "Sometimes"}}, "spec.imagePullPolicy must be Always or IfNotPresent or Never"),
        ({"spec": {"driver": {"env": [{"name": "A", "value": 1}]}}}, "spec.driver.env: A must be a text"),
        ({"spec": {"driver": {"env": {"A": "1"}}}}, "spec.driver.env must be a list of objects"),
        (
            {"spec": {"driver": {"env": [{"name": "FLYERTIME_REDIS_PASSWORD", "value": "x"}]}}},
            "FLYERTIME_REDIS_PASSWORD must come from a Secret",
        ),
        ({"spec": {"driver": {"envVars": {"FLYERTIME_REDIS_PASSWORD": "x"}}}}, "envVars must not hold"),
        ({"spec": {"driver": {"labels": {"a b": "c"}}}}, "spec.driver.labels: 'a b' is no key of a label"),
        ({"metadata": {"labels": {"a": "b c"}}}, "metadata.labels: a must be at most 63 letters"),
        (
            {"spec": {"nodeSelector": {"a": "b"}, "driver": {"nodeSelector": {"a": "b"}}}},
            "spec.nodeSelector and spec.driver.nodeSelector exclude each other",
        ),
        (
            {"spec": {"dynamicAllocation": {"enabled": True, "minExecutors": 3, "maxExecutors": 2}}},
            "minExecutors is 3, more than maxExecutors",
        ),
        (
            {"spec": {"dynamicAllocation": {"enabled": True, "maxExecutors": 1}}},
            "instances is 2, more than maxExecutors",
        ),
    ],
)
def test_what_would_be_denied_is_refused_first(template: object, reason: str) -> None:
    """The error names the field and what would be right."""
    with pytest.raises(MisconfiguredError, match=reason):
        build(LAUNCH, PLAIN, template)


@pytest.mark.parametrize("key", DENIED_CONF)
def test_configuration_that_the_operator_denies_is_refused(key: str) -> None:
    """Each with the way to go instead."""
    with pytest.raises(MisconfiguredError, match=re.escape(f"must not set {key}: ")):
        build(LAUNCH, dataclasses.replace(PLAIN, spark_conf=f"{key}=x"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"spark_image": None}, "set FLYERTIME_SPARK_IMAGE"),
        ({"spark_namespace": "Jobs"}, "metadata.namespace must be lower-case"),
        ({"driver_memory": "1G i"}, "spec.driver.memory"),
        ({"executors": 5, "max_executors": 4}, "more than maxExecutors"),
        ({"spark_conf": "a"}, "FLYERTIME_SPARK_CONF must be key=value"),
        ({"spark_conf": "{"}, "FLYERTIME_SPARK_CONF must be key=value,key=value or a JSON object"),
        ({"spark_conf": '{"a": 1}'}, "FLYERTIME_SPARK_CONF must be key=value,key=value or a JSON object"),
        ({"spark_labels": "=x"}, "FLYERTIME_SPARK_LABELS must be key=value"),
        ({"spark_node_selector": "pool"}, "FLYERTIME_SPARK_NODE_SELECTOR must be key=value"),
    ],
)
def test_settings_that_make_no_application_are_refused(changes: dict[str, Any], reason: str) -> None:
    """The error names the setting, or the field that it becomes."""
    with pytest.raises(MisconfiguredError, match=reason):
        build(LAUNCH, dataclasses.replace(PLAIN, **changes))


def test_all_faults_are_told_at_once() -> None:
    """Nobody has to deploy three times to hear of three mistakes."""
    settings = dataclasses.replace(PLAIN, spark_image=None, driver_memory="lots", spark_conf="spark.master=local")

    with pytest.raises(MisconfiguredError) as caught:
        build(LAUNCH, settings, {"spec": {"mode": "client"}})

    assert all(part in caught.value.message for part in ("SPARK_IMAGE", "driver.memory", "spark.master", "spec.mode"))


texts = st.text("abc=,{}\n ", max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
pods = st.dictionaries(st.sampled_from(["cores", "memory", "env", "labels", "nodeSelector", "envVars"]), json_values)
templates = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.dictionaries(st.sampled_from(["labels", "annotations", "name"]), json_values) | json_values,
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "driver": pods | json_values,
                "executor": pods | json_values,
                "sparkConf": json_values,
                "nodeSelector": json_values,
                "dynamicAllocation": json_values,
                "image": json_values,
                "sparkVersion": json_values,
                "timeToLiveSeconds": json_values,
            },
        )
        | json_values,
    },
)


@given(templates | json_values, texts, texts, texts)
def test_any_template_makes_a_valid_application_or_is_refused(
    template: object, labels: str, conf: str, selector: str
) -> None:
    """Nothing that people may write ends in a traceback."""
    settings = dataclasses.replace(PLAIN, spark_labels=labels, spark_conf=conf, spark_node_selector=selector)
    try:
        application = build(LAUNCH, settings, template)
    except MisconfiguredError:
        return

    metadata = application["metadata"]
    assert (LAUNCH.name, "ft", "2") == (
        metadata["name"],
        metadata["labels"]["flyertime/pipeline"],
        metadata["labels"]["flyertime/attempt"],
    )


@given(st.dictionaries(texts, json_values), st.dictionaries(texts, json_values))
def test_merging_is_a_json_merge_patch(base: dict[str, Any], patch: dict[str, Any]) -> None:
    """As RFC 7386 defines it: null removes, objects merge, all else replaces; and it is the same done twice."""
    result = merged(base, patch)

    for key in base.keys() | patch.keys():
        if key not in patch:
            assert base[key] == result[key]
        elif patch[key] is None:
            assert key not in result
        elif not isinstance(patch[key], dict):
            assert patch[key] == result[key]
    assert result == merged(result, patch)


def test_a_run_knows_in_whose_trace_it_was_started() -> None:
    """In an annotation for people, and for the driver in the variable that OpenTelemetry has for it."""
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    application = build(LAUNCH, PLAIN, None, traceparent)

    assert traceparent == application["metadata"]["annotations"]["flyertime/traceparent"]
    assert {"name": "TRACEPARENT", "value": traceparent} in application["spec"]["driver"]["env"]
    assert "TRACEPARENT" not in str(build(LAUNCH, PLAIN))
