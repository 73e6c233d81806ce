"""What asks for a store gets both: one server, and a Redis Cluster of three."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import redis

from functions.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    first, *others = settings.redis_url.split(",")
    client: Any = redis.RedisCluster.from_url(first) if others else redis.Redis.from_url(first)
    yield client
    client.close()
