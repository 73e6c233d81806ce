"""The charts rendered by Helm itself, and the checks that every object has to pass."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml
from helm_python import Chart

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the models on their own field names
    from cloudcoil.models.knative_eventing.eventing import v1 as eventing
    from cloudcoil.models.knative_eventing.sources import v1 as sources
    from cloudcoil.models.knative_serving.serving import v1 as serving

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
KUBERNETES_VERSION = "1.34"
"""The oldest that Knative 1.23 runs on."""
MODELS: dict[tuple[str, str], Any] = {
    ("serving.knative.dev/v1", "Service"): serving.Service,
    ("eventing.knative.dev/v1", "Broker"): eventing.Broker,
    ("eventing.knative.dev/v1", "Trigger"): eventing.Trigger,
    ("sources.knative.dev/v1", "PingSource"): sources.PingSource,
    ("sources.knative.dev/v1", "ApiServerSource"): sources.ApiServerSource,
}

Object = dict[str, Any]


def render_chart(name: str, values: dict[str, Any] | None = None, namespace: str = "default") -> list[Object]:
    """Return a chart's objects, as ``helm install`` would send them."""
    rendered = Chart.load(str(ROOT / "charts" / name)).render(values or {}, name="test", namespace=namespace)
    return [
        document
        for file, text in sorted(rendered.items())
        if file.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


def check_object(document: Object) -> None:
    """Check an object against its published schema, strictly: an unknown or misspelt field fails."""
    kind = (document["apiVersion"], document["kind"])
    model = MODELS.get(kind)
    if model is None:
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
    else:
        read = model.model_validate(document)
        written = json.loads(read.model_dump_json(by_alias=True, exclude_unset=True))
        assert document == written, f"{kind} has fields that its model does not know"


@pytest.fixture(scope="session")
def render() -> Callable[..., list[Object]]:
    """Return what renders a chart."""
    return render_chart


@pytest.fixture(scope="session")
def check() -> Callable[[Object], None]:
    """Return what checks an object."""
    return check_object


@pytest.fixture(scope="session")
def knative() -> dict[tuple[str, str], Object]:
    """The objects of knative/, by kind and name."""
    documents = [
        document
        for path in sorted((ROOT / "knative").glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for document in yaml.safe_load_all(path.read_text())
    ]
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}
