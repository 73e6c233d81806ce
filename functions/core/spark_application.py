"""From settings, and a template of the platform team, to the SparkApplication of a run. Pure.

A run is never restarted by the operator: trigger starts the next attempt itself, with pauses and a limit, under another
name.

Variables and security contexts reach the pods by the operator's webhook (its value webhook.enable, on by default):
where it is off, the job starts without them and ends because it finds no store.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from functions.core.addresses import addresses_of
from functions.core.errors import MisconfiguredError
from functions.core.settings import PREFIX
from functions.core.spark_application_rules import PASSWORD_VARIABLE, faults_of
from functions.core.spark_sizing import executors_of, memory_overhead_of
from functions.core.spark_states import ATTEMPT, BACKLOG
from functions.core.spark_template import GROUP, KIND, MANAGED_BY, MANAGER, PIPELINE, VERSION, checked, merged

if TYPE_CHECKING:
    from functions.core.policy import Launch
    from functions.core.settings import Settings

JOB_SETTINGS: Final = (
    "redis_url",
    "redis_timeout_s",
    "namespace",
    "shards",
    "round_events",
    "archive_uri",
    "open_to_close",
    "lateness_s",
    "linger_s",
    "linger_max_s",
    "updates_sink",
    "sink_timeout_s",
    "log_level",
)
"""The settings that the job reads, apart from the password; trigger hands its own ones on."""

_SPARK_USER: Final = 185
"""The user ``spark`` of the official images."""
_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?", re.ASCII)


def build(
    launch: Launch, settings: Settings, template: object = None, traceparent: str | None = None
) -> dict[str, Any]:
    """Return the SparkApplication of a run.

    Args:
        launch: The run.
        settings: What it is made from.
        template: What the platform team merges over that.
        traceparent: In whose trace it is started; the driver's log says so.

    Raises:
        MisconfiguredError: Settings and template do not make one that the operator would take; all faults are named.
    """
    faults = _store_faults(settings)
    given, template_faults = checked(template)
    faults += template_faults
    application: dict[str, Any] = merged(_from_settings(launch, settings, faults), given)
    _claim(application, launch, settings)
    if traceparent is not None:
        _trace(application, traceparent)
    faults += faults_of(application)
    if faults:
        raise MisconfiguredError("bad_spark_application", "no run can be started: " + "; ".join(faults))
    return application


def labels_of_pipeline(settings: Settings) -> dict[str, str]:
    """Return the labels by which this pipeline's runs are found."""
    name = settings.namespace
    if not _LABEL_VALUE.fullmatch(name):
        name = hashlib.sha256(name.encode()).hexdigest()[:12]
    return {MANAGED_BY: MANAGER, PIPELINE: name}


def pairs_of(text: str | None, variable: str, faults: list[str]) -> dict[str, str]:
    """Return what ``key=value,key=value`` or a JSON object says; where it is neither, add a fault."""
    if text is None:
        return {}
    if text.startswith("{"):
        try:
            pairs = json.loads(text)
        except ValueError:
            pairs = None
        if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
            faults.append(f"{variable} must be key=value,key=value or a JSON object of texts")
            return {}
        return pairs
    parts = [part.strip().partition("=") for part in text.replace("\n", ",").split(",") if part.strip()]
    if not all(key.strip() and equals for key, equals, _ in parts):
        faults.append(f"{variable} must be key=value,key=value; where a value holds a comma, a JSON object")
        return {}
    return {key.strip(): value.strip() for key, _, value in parts}


def _from_settings(launch: Launch, settings: Settings, faults: list[str]) -> dict[str, Any]:
    security = {
        "runAsUser": _SPARK_USER,
        "runAsGroup": _SPARK_USER,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    spec: dict[str, Any] = {
        "type": "Python",
        "pythonVersion": "3",
        "mode": "cluster",
        "sparkVersion": settings.spark_version,
        "imagePullPolicy": settings.spark_image_pull_policy,
        "mainApplicationFile": settings.spark_main_file,
        "timeToLiveSeconds": settings.spark_ttl_s,
        "restartPolicy": {"type": "Never"},
        "driver": {
            "cores": settings.driver_cores,
            "memory": settings.driver_memory,
            "serviceAccount": settings.spark_service_account,
            "env": _variables(settings),
            "securityContext": security,
        },
        "executor": {
            "cores": settings.executor_cores,
            "memory": settings.executor_memory,
            "memoryOverhead": memory_overhead_of(settings),
            "env": _variables(settings),
            "securityContext": security,
        },
    }
    if settings.spark_image is not None:
        spec["image"] = settings.spark_image
    if settings.max_executors is None:
        spec["executor"]["instances"] = settings.executors
    else:
        spec["dynamicAllocation"] = {
            "enabled": True,
            "initialExecutors": executors_of(launch.pending_events, settings),
            "minExecutors": settings.executors,
            "maxExecutors": settings.max_executors,
        }
    for field, text in (("nodeSelector", "spark_node_selector"), ("sparkConf", "spark_conf")):
        if pairs := pairs_of(getattr(settings, text), PREFIX + text.upper(), faults):
            spec[field] = pairs
    labels = pairs_of(settings.spark_labels, PREFIX + "SPARK_LABELS", faults)
    return {"metadata": {"labels": labels, "annotations": {}}, "spec": spec}


def _variables(settings: Settings) -> list[dict[str, Any]]:
    """Return the job's environment; the password only as a reference to its Secret."""
    values = {name: getattr(settings, name) for name in JOB_SETTINGS}
    values["redis_url"] = settings.spark_redis_url or settings.redis_url
    variables: list[dict[str, Any]] = [
        {"name": PREFIX + name.upper(), "value": str(value)} for name, value in values.items() if value is not None
    ]
    if settings.spark_redis_secret is not None:
        reference = {"name": settings.spark_redis_secret, "key": settings.spark_redis_secret_key}
        variables.append({"name": PASSWORD_VARIABLE, "valueFrom": {"secretKeyRef": reference}})
    return variables


def _claim(application: dict[str, Any], launch: Launch, settings: Settings) -> None:
    """Make the application this run's; nothing before had a say in that."""
    ours = {BACKLOG: launch.digest, ATTEMPT: str(launch.attempt)}
    metadata = application["metadata"]
    application["apiVersion"], application["kind"] = f"{GROUP}/{VERSION}", KIND
    metadata["name"], metadata["namespace"] = launch.name, settings.spark_namespace
    if isinstance(metadata.setdefault("labels", {}), dict):  # where it is not, the rules tell
        metadata["labels"].update({"app.kubernetes.io/name": "flyertime", **labels_of_pipeline(settings), **ours})
    if isinstance(metadata.setdefault("annotations", {}), dict):
        about = {"flyertime/cause": launch.cause.value, "flyertime/pending-events": str(launch.pending_events)}
        metadata["annotations"].update(about)
    application["spec"]["arguments"] = ["--run", launch.name]


def _trace(application: dict[str, Any], traceparent: str) -> None:
    """Name the trace in an annotation, for people, and to the driver, by OpenTelemetry's name for the variable."""
    metadata, driver = application["metadata"], application["spec"].get("driver")
    if isinstance(metadata.get("annotations"), dict):
        metadata["annotations"]["flyertime/traceparent"] = traceparent
    if isinstance(driver, dict) and isinstance(driver.get("env"), list):
        driver["env"] = [*driver["env"], {"name": "TRACEPARENT", "value": traceparent}]


def _store_faults(settings: Settings) -> list[str]:
    """Return why the job could not be told the store's password, or would show it."""
    faults = []
    for variable, url in (("REDIS_URL", settings.redis_url), ("SPARK_REDIS_URL", settings.spark_redis_url)):
        parts = [urlsplit(address) for address in addresses_of(url or "")]
        if any(part.password or "password" in parse_qs(part.query) for part in parts):
            faults.append(
                f"{PREFIX}{variable} must not hold the password, which everybody who may read SparkApplications would "
                f"see: set {PASSWORD_VARIABLE} here, from a Secret, and FLYERTIME_SPARK_REDIS_SECRET for the job"
            )
    if settings.redis_password is not None and settings.spark_redis_secret is None:
        faults.append(
            "the store has a password that the job would not know: set FLYERTIME_SPARK_REDIS_SECRET to the name of a "
            "Secret in the runs' namespace"
        )
    return faults
