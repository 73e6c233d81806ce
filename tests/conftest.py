"""Fixtures for all tests: a real store, and a namespace of its own for each test."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import httpx2
import hypothesis
import pytest
import redis

from functions.core.settings import Settings
from functions.local.valkey import EmbeddedValkey, free_port
from tests.kubernetes_api.fixtures import cluster, make_cluster, servers
from tests.redis_cluster import EmbeddedCluster

__all__ = ["cluster", "make_cluster"]  # fixtures of all tests

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

# How long an example takes is the machine's affair; what it gives is ours.
hypothesis.settings.register_profile("flyertime", deadline=None, print_blob=True)
hypothesis.settings.load_profile("flyertime")

# Spark's JVM with the compiler for short lives, also where it counts history: of a few hundred rows here.
os.environ.setdefault("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1")

_numbers = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take a cluster for the tests of the operator's launcher."""
    parser.addoption("--kubeconfig", help="run the tests that need a Kubernetes API against this cluster too")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that needs a Kubernetes API against each one that there is."""
    if "make_cluster" in metafunc.fixturenames:
        metafunc.parametrize("make_cluster", servers(metafunc.config), indirect=True, scope="session")


class MakeServer(Protocol):
    """Prepare a store that the test may disturb; a ``with`` block starts and stops it."""

    def __call__(self, config: Mapping[str, str] | None = None) -> EmbeddedValkey: ...


@pytest.fixture(scope="session")
def make_server(tmp_path_factory: pytest.TempPathFactory) -> MakeServer:
    """Return what prepares stores: embedded Valkey, or the program that FLYERTIME_TEST_SERVER names."""
    binary = os.environ.get("FLYERTIME_TEST_SERVER")

    def make(config: Mapping[str, str] | None = None) -> EmbeddedValkey:
        return EmbeddedValkey(tmp_path_factory.mktemp("valkey"), config=config, binary=binary)

    return make


@pytest.fixture(scope="session")
def valkey(make_server: MakeServer) -> Iterator[EmbeddedValkey]:
    """A server that all tests of the session share; a test that disturbs one makes its own."""
    with make_server() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """A Redis Cluster of three nodes that all tests of the session share; a test that disturbs one makes its own."""
    binary = os.environ.get("FLYERTIME_TEST_SERVER")
    with EmbeddedCluster(tmp_path_factory.mktemp("cluster"), binary=binary) as cluster:
        yield cluster


@pytest.fixture
def settings(valkey: EmbeddedValkey) -> Settings:
    """Settings of a pipeline of the test's own: a namespace that no other test uses, and four shards."""
    return Settings(redis_url=valkey.url, namespace=f"t{next(_numbers)}", shards=4)


@pytest.fixture
def raw_redis(valkey: EmbeddedValkey) -> Iterator[redis.Redis]:
    """A plain client, to look at what is in the store and to disturb it."""
    client = redis.Redis.from_url(valkey.url)
    yield client
    client.close()


@pytest.fixture
def replicated(make_server: MakeServer) -> Iterator[tuple[EmbeddedValkey, EmbeddedValkey]]:
    """A server, and one that follows it."""
    with make_server({"repl-diskless-sync-delay": "0"}) as master, make_server() as replica:
        with redis.Redis.from_url(replica.url) as client, redis.Redis.from_url(master.url) as there:
            client.replicaof("127.0.0.1", master.port)
            while there.execute_command("WAIT", 1, 100) < 1:
                there.set("following", 1)
        yield master, replica


class FunctionProcess:
    """One function, served as its container serves it."""

    def __init__(self, target: str, environment: dict[str, str], log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        command = [sys.executable, "-m", "functions.server", "--host", "127.0.0.1", "--port", str(self.port)]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, "FUNCTION_TARGET": target, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx2.get(f"{self.url}/healthz", timeout=1, trust_env=False)
            except httpx2.HTTPError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    self.process.wait()
                    raise RuntimeError(f"{target} did not start:\n{log.read_text()}") from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> int:
        """End it as Kubernetes does, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


class ServeFunction(Protocol):
    """Start a function for the length of a ``with`` block."""

    def __call__(
        self, target: str, settings: Settings, **environment: str
    ) -> AbstractContextManager[FunctionProcess]: ...


@pytest.fixture(scope="session")
def serve_function(tmp_path_factory: pytest.TempPathFactory) -> ServeFunction:
    """Return what starts functions as processes of their own, served as in a container."""

    @contextmanager
    def serve(target: str, settings: Settings, **environment: str) -> Iterator[FunctionProcess]:
        needed = {
            "FLYERTIME_REDIS_URL": settings.redis_url,
            "FLYERTIME_NAMESPACE": settings.namespace,
            "FLYERTIME_SHARDS": str(settings.shards or ""),
            "FLYERTIME_WRITE_AUTH": settings.write_auth if settings.write_keys else "off",
            "FLYERTIME_WRITE_KEYS": settings.write_keys or "",
            "FLYERTIME_READ_AUTH": settings.read_auth if settings.read_keys or settings.oidc_issuer else "off",
            "FLYERTIME_READ_KEYS": settings.read_keys or "",
            "FLYERTIME_PSEUDONYMS": settings.pseudonyms,
            "FLYERTIME_PSEUDONYM_SECRET": settings.pseudonym_secret or "",
        }
        process = FunctionProcess(target, {**needed, **environment}, tmp_path_factory.mktemp(target) / "log")
        try:
            yield process
        finally:
            if process.process.poll() is None:
                process.stop()

    return serve
