"""What a SparkApplication must be like for the API server and the operator to take it, and for it to be ours.

The operator's webhook tells one fault at a time, and only when a run is due; these rules tell all of them at start, in
the words of the settings and the template. They cover what we emit and what people commonly override, and leave other
fields to the API server, which is asked to be strict. Read from the operator 2.5.2: its CRD and its webhooks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PASSWORD_VARIABLE: Final = "FLYERTIME_REDIS_PASSWORD"  # noqa: S105  # its name

_OPERATORS_OWN: Final = "the operator sets it"
_USE_IMAGE: Final = "use spec.image, or FLYERTIME_SPARK_IMAGE"
_USE_ACCOUNT: Final = "use spec.driver.serviceAccount, or FLYERTIME_SPARK_SERVICE_ACCOUNT"
_USE_DYNAMIC: Final = "use spec.dynamicAllocation, or FLYERTIME_MAX_EXECUTORS"
DENIED_CONF: Final[Mapping[str, str]] = {
    "spark.master": _OPERATORS_OWN,
    "spark.kubernetes.driver.master": _OPERATORS_OWN,
    "spark.kubernetes.container.image": _USE_IMAGE,
    "spark.kubernetes.driver.container.image": _USE_IMAGE,
    "spark.kubernetes.executor.container.image": _USE_IMAGE,
    "spark.kubernetes.authenticate.driver.serviceAccountName": _USE_ACCOUNT,
    "spark.kubernetes.authenticate.executor.serviceAccountName": _USE_ACCOUNT,
    "spark.kubernetes.authenticate.oauthToken": _OPERATORS_OWN,
    "spark.kubernetes.authenticate.oauthTokenFile": _OPERATORS_OWN,
    "spark.kubernetes.authenticate.driver.oauthToken": _OPERATORS_OWN,
    "spark.kubernetes.authenticate.driver.oauthTokenFile": _OPERATORS_OWN,
    "spark.kubernetes.authenticate.executor.oauthToken": _OPERATORS_OWN,
    "spark.kubernetes.authenticate.executor.oauthTokenFile": _OPERATORS_OWN,
    # The operator looks for it in lower case, misses it, and asks for one executor.
    "spark.dynamicAllocation.enabled": _USE_DYNAMIC,
    # Denied unless it says what holds anyway.
    "spark.kubernetes.namespace": "use FLYERTIME_SPARK_NAMESPACE",
}
"""Keys of ``sparkConf`` that the operator denies, or that it or we would overrule, each with the way to go."""

_DNS_1035: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_NAME: Final = re.compile(r"([a-zA-Z0-9]([-\w.]{0,61}[a-zA-Z0-9])?)", re.ASCII)
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_JVM_MEMORY: Final = re.compile(r"[1-9]\d*[kmgt]b?", re.IGNORECASE | re.ASCII)
_ENUMS: Final = {
    "type": ("Python",),
    "mode": ("cluster",),
    "pythonVersion": ("3",),
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
}
_PODS: Final = ("driver", "executor")


def faults_of(application: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a SparkApplication, each fault with the path of its field and what would be right."""
    spec = application["spec"]
    return [
        *_name(application["metadata"]),
        *_texts(application["metadata"].get("annotations"), "metadata.annotations"),
        *_labels(application["metadata"].get("labels"), "metadata.labels"),
        *_spec(spec),
        *(fault for pod in _PODS for fault in _pod(spec.get(pod), f"spec.{pod}")),
        *_placement(spec),
        *_allocation(spec.get("dynamicAllocation"), spec.get("executor")),
    ]


def _name(metadata: Mapping[str, Any]) -> Iterator[str]:
    for field in ("name", "namespace"):
        if not _DNS_1035.fullmatch(str(metadata.get(field, ""))):
            yield (
                f"metadata.{field} must be lower-case letters, digits and dashes, a letter first, at most 63: "
                f"{metadata.get(field)!r}"
            )


def _spec(spec: Mapping[str, Any]) -> Iterator[str]:
    for field in ("sparkVersion", "mainApplicationFile"):
        if not isinstance(spec.get(field), str) or not spec[field]:
            yield f"spec.{field} must be a text that is not empty"
    for field, choices in _ENUMS.items():
        if field in spec and spec[field] not in choices:
            yield f"spec.{field} must be {' or '.join(choices)}, as a text: {spec[field]!r}"
    pods = [spec.get(pod) for pod in _PODS]
    if not spec.get("image") and not all(isinstance(pod, dict) and pod.get("image") for pod in pods):
        yield "spec.image is missing: set FLYERTIME_SPARK_IMAGE to the image of the Spark job"
    yield from _texts(spec.get("sparkConf"), "spec.sparkConf")
    for key in DENIED_CONF:
        if key in _object(spec.get("sparkConf")):
            yield f"spec.sparkConf must not set {key}: {DENIED_CONF[key]}"
    for key in map(str, _object(spec.get("sparkConf"))):
        if key.endswith(PASSWORD_VARIABLE) and "secretKeyRef" not in key:
            yield f"spec.sparkConf must not hold {PASSWORD_VARIABLE}: set FLYERTIME_SPARK_REDIS_SECRET"
    ttl_s = spec.get("timeToLiveSeconds")
    if not isinstance(ttl_s, int) or ttl_s < 1:
        yield "spec.timeToLiveSeconds must be a whole number of at least 1: ended runs would pile up"


def _pod(pod: Any, path: str) -> Iterator[str]:
    if not isinstance(pod, dict):
        yield f"{path} must be an object"
        return
    for field in ("cores", "instances"):
        if field in pod and (not _is_int(pod[field]) or pod[field] < 1):
            yield f"{path}.{field} must be a whole number of at least 1 (parts of a core: coreRequest): {pod[field]!r}"
    for field in ("memory", "memoryOverhead"):
        if field in pod and not _JVM_MEMORY.fullmatch(str(pod[field])):
            yield f"{path}.{field} must be as a JVM wants it, such as 512m or 2g (not 2Gi): {pod[field]!r}"
    yield from _labels(pod.get("labels"), f"{path}.labels")
    yield from _texts(pod.get("annotations"), f"{path}.annotations")
    yield from _environment(pod.get("env"), f"{path}.env")
    if PASSWORD_VARIABLE in _object(pod.get("envVars")):
        yield f"{path}.envVars must not hold {PASSWORD_VARIABLE}: set FLYERTIME_SPARK_REDIS_SECRET"


def _environment(variables: Any, path: str) -> Iterator[str]:
    if variables is None:
        return
    if not isinstance(variables, list) or not all(isinstance(variable, dict) for variable in variables):
        yield f"{path} must be a list of objects with name and value, or name and valueFrom"
        return
    for variable in variables:
        name = variable.get("name")
        if not isinstance(name, str) or not name:
            yield f"{path}: a variable has no name"
        elif name == PASSWORD_VARIABLE and "secretKeyRef" not in _object(variable.get("valueFrom")):
            yield f"{path}: {name} must come from a Secret (valueFrom.secretKeyRef)"
        elif not isinstance(variable.get("value", ""), str):
            yield f"{path}: {name} must be a text; put it in quotes"


def _placement(spec: Mapping[str, Any]) -> Iterator[str]:
    on_pods = [pod for pod in _PODS if isinstance(spec.get(pod), dict) and "nodeSelector" in spec[pod]]
    if "nodeSelector" in spec and on_pods:
        yield (
            f"spec.nodeSelector and spec.{on_pods[0]}.nodeSelector exclude each other: set "
            "FLYERTIME_SPARK_NODE_SELECTOR for both pods, or the template's for each"
        )
    for path, owner in (("spec", spec), *((f"spec.{pod}", spec.get(pod)) for pod in _PODS)):
        if isinstance(owner, dict):
            yield from _labels(owner.get("nodeSelector"), f"{path}.nodeSelector")


def _allocation(allocation: Any, executor: Any) -> Iterator[str]:
    if not isinstance(allocation, dict) or allocation.get("enabled") is not True:
        return
    counts = {name: allocation.get(name) for name in ("minExecutors", "initialExecutors", "maxExecutors")}
    counts["instances"] = executor.get("instances") if isinstance(executor, dict) else None
    for name, count in counts.items():
        if count is not None and (not _is_int(count) or count < (1 if name == "maxExecutors" else 0)):
            yield f"spec.dynamicAllocation: {name} must be a whole number: {count!r}"
            return
    most = counts.pop("maxExecutors")
    for name, count in counts.items():
        if most is not None and count is not None and count > most:
            yield f"spec.dynamicAllocation: {name} is {count}, more than maxExecutors (FLYERTIME_MAX_EXECUTORS), {most}"


def _labels(labels: Any, path: str) -> Iterator[str]:
    yield from _texts(labels, path)
    for key, value in _object(labels).items():
        prefix, slash, name = str(key).rpartition("/")
        if not _LABEL_NAME.fullmatch(name) or (slash and not _SUBDOMAIN.fullmatch(prefix)):
            yield f"{path}: {key!r} is no key of a label"
        if isinstance(value, str) and value and not _LABEL_NAME.fullmatch(value):
            yield f"{path}: {key} must be at most 63 letters, digits, dashes, dots and underscores: {value[:80]!r}"


def _texts(values: Any, path: str) -> Iterator[str]:
    if values is None:
        return
    if not isinstance(values, dict):
        yield f"{path} must be an object"
        return
    for key, value in values.items():
        if not isinstance(value, str):
            yield f"{path}: {key} must be a text; put it in quotes: {value!r}"


def _object(value: Any) -> Mapping[str, Any]:
    """Return an object for one that something else stands for; that it does is told elsewhere."""
    return value if isinstance(value, dict) else {}


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
