"""API servers for tests, all with the same face: kmock in this process, or a real kube-apiserver.

A test asks for the fixture ``cluster`` and gets each server that there is: kmock always; a kube-apiserver with etcd,
started as envtest does, where KUBEBUILDER_ASSETS names the folder with the two programs; and the cluster of
``pytest --kubeconfig FILE``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.kubernetes_api.gate import Gate

GROUP: Final = "sparkoperator.k8s.io"
VERSION: Final = "v1beta2"
PLURAL: Final = "sparkapplications"


class Cluster(Protocol):
    """One namespace of an API server, as a test sees it."""

    namespace: str
    kubeconfig: Path
    """Trigger's way in: a user who may create, get and list SparkApplications in this namespace, and nothing else."""
    kubeconfig_of_nobody: Path
    """The way in of a user who may nothing."""
    gate: Gate
    """Both ways lead through it."""
    validates_fields: bool
    """Whether the server refuses fields that it does not know, where it is asked to: Kubernetes does from 1.25 on."""

    def applications(self) -> list[dict[str, Any]]:
        """Return the SparkApplications of the namespace, by name."""

    def set_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Set a SparkApplication's status, as the operator does."""

    def add(self, application: Mapping[str, Any]) -> None:
        """Create a SparkApplication as somebody else."""

    def delete(self, name: str) -> None:
        """Delete a SparkApplication, as its time to live or a person does."""

    def close(self) -> None:
        """Remove what the test has made."""


def write_kubeconfig(path: Path, server: Mapping[str, Any], token: str) -> Path:
    """Write a kubeconfig with one user."""
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "tests", "cluster": dict(server)}],
                "users": [{"name": "tests", "user": {"token": token}}],
                "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
                "current-context": "tests",
            }
        )
    )
    return path
