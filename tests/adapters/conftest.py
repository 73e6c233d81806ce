"""What asks for a store gets both: one server, and a Redis Cluster of three; runs on this machine get a folder."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from functions.adapters.spark_local import stop_runs
from functions.core.settings import Settings
from tests.redis_cluster import plain_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

_numbers = itertools.count()


@pytest.fixture(params=["server", "cluster"])
def settings(request: pytest.FixtureRequest) -> Settings:
    """Settings of a pipeline of the test's own, in either kind of store."""
    kind = request.param
    url = request.getfixturevalue("redis_cluster" if kind == "cluster" else "valkey").url
    return Settings(redis_url=url, namespace=f"{kind}{next(_numbers)}", shards=4)


@pytest.fixture
def raw_redis(settings: Settings) -> Iterator[redis.Redis]:
    """A client that is not ours: redis-py's own, for a cluster its RedisCluster."""
    client = plain_client(settings.redis_url)
    yield client
    client.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Settings]:
    """Settings with a folder of the test's own; whatever still runs in it at the end is ended."""
    runs_dir = tmp_path / "runs"
    yield Settings(local_runs_dir=str(runs_dir))
    stop_runs(runs_dir, 2)
