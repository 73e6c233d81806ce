"""A part of a SparkApplication, written by the platform team, and how it is merged over ours. Pure.

It has the last word (a JSON merge patch, RFC 7386: null removes; lists of variables are joined by name), except on what
makes a run ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from functions.core.spark_states import ATTEMPT, BACKLOG

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP: Final = "sparkoperator.k8s.io"
VERSION: Final = "v1beta2"
KIND: Final = "SparkApplication"
PLURAL: Final = "sparkapplications"

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "flyertime-trigger"
PIPELINE: Final = "flyertime/pipeline"

_OURS: Final = {
    "metadata": ("name", "generateName", "namespace", "ownerReferences", "finalizers"),
    "spec": ("type", "mode", "pythonVersion", "arguments", "restartPolicy", "suspend"),
}
"""What a template must leave alone."""


def checked(template: object) -> tuple[dict[str, Any], list[str]]:
    """Return what a template may say, and what is wrong with it."""
    if template is None:
        return {}, []
    if not isinstance(template, dict):
        return {}, ["FLYERTIME_SPARK_TEMPLATE must hold one object, a part of a SparkApplication"]
    faults = [
        f"the template's {field} must be {wanted}"
        for field, wanted in (("apiVersion", f"{GROUP}/{VERSION}"), ("kind", KIND))
        if template.get(field, wanted) != wanted
    ]
    faults += [
        f"the template has a field {field!r}; it may have metadata and spec"
        for field in sorted(map(str, set(template) - {"apiVersion", "kind", "metadata", "spec"}))
    ]
    given: dict[str, Any] = {}
    for part, ours in _OURS.items():
        value = template.get(part)
        if value is None:
            continue
        if not isinstance(value, dict):
            faults.append(f"the template's {part} must be an object")
            continue
        faults += [f"the template must not set {part}.{field}: flyertime does" for field in ours if field in value]
        given[part] = value
    labels = given.get("metadata", {}).get("labels")
    faults += [
        f"the template must not set the label {label}: flyertime does"
        for label in (MANAGED_BY, PIPELINE, BACKLOG, ATTEMPT)
        if isinstance(labels, dict) and label in labels
    ]
    return given, faults


def merged(base: Any, patch: Any) -> Any:
    """Return a JSON value with a merge patch on it; lists of variables are joined by name."""
    if not isinstance(patch, dict):
        return patch
    result = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif key == "env" and isinstance(value, list) and isinstance(result.get(key), list):
            result[key] = _joined(result[key], value)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _joined(ours: Sequence[Any], theirs: Sequence[Any]) -> list[Any]:
    """Return two lists of variables as one; theirs replace those of the same name."""
    names = {variable.get("name") for variable in theirs if isinstance(variable, dict)}
    return [variable for variable in ours if variable.get("name") not in names] + list(theirs)
