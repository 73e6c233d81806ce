"""The fixture ``cluster``, for tests/conftest.py; see clusters.py."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kubernetes_api.clusters import Cluster

    MakeCluster = Callable[[str, Path], Cluster]


def servers(config: pytest.Config) -> list[str]:
    """Return which API servers there are."""
    found = ["kmock"]
    if os.environ.get("KUBEBUILDER_ASSETS"):
        found.append("kube-apiserver")
    if config.getoption("kubeconfig"):
        found.append("kubeconfig")
    return found


@pytest.fixture(scope="session")
def make_cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeCluster]:
    """Return what makes a namespace on the API server of the test's parameter; see pytest_generate_tests."""
    if request.param == "kmock":
        from tests.kubernetes_api.fake import FakeCluster, FakeServer  # noqa: PLC0415  # 0.5 s, for few tests

        server = FakeServer()
        yield lambda namespace, folder: FakeCluster(server, namespace, folder)
        server.close()
        return
    from tests.kubernetes_api.real import KubeApiServer, RealCluster, RealServer  # noqa: PLC0415  # as above

    if request.param == "kube-apiserver":
        started = KubeApiServer(Path(os.environ["KUBEBUILDER_ASSETS"]), tmp_path_factory.mktemp("kube-apiserver"))
        try:
            real = RealServer(started.kubeconfig)
            yield lambda namespace, folder: RealCluster(real, namespace, folder)
        finally:
            started.close()
        return
    real = RealServer(Path(request.config.getoption("kubeconfig")))
    yield lambda namespace, folder: RealCluster(real, namespace, folder)
    real.close()


@pytest.fixture
def cluster(make_cluster: MakeCluster, tmp_path: Path) -> Iterator[Cluster]:
    """A namespace of the test's own on an API server, with trigger's rights and without an operator."""
    folder = tmp_path / "kubeconfigs"
    folder.mkdir()
    cluster = make_cluster(f"flyertime-test-{secrets.token_hex(4)}", folder)
    yield cluster
    cluster.close()
