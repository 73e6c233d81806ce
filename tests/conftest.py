"""Fixtures for all tests: a real store, and a namespace of its own for each test."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import redis

from functions.core.settings import Settings
from functions.local.valkey import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """An embedded Valkey server that all tests of the session share; a test that kills one starts its own."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


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
