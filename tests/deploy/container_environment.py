"""What a container of a rendered chart has in its environment."""

from __future__ import annotations

from typing import Any


def environment_of(documents: list[Any], name: str) -> dict[str, Any]:
    """Return the environment of a function: values, and what refers to a Secret."""
    (service,) = (d for d in documents if d["kind"] == "Service" and d["metadata"]["name"] == name)
    (container,) = service["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}
