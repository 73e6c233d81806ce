"""A store of four shards with an archive, which tests give another number of shards."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from functions.adapters import redis_lease
from functions.adapters.redis_resharding import ReshardingStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.core.settings import Settings


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is gone is not waited for long."""
    monkeypatch.setattr(redis_lease, "LEASE_S", 0.3)


@pytest.fixture
def kept(settings: Settings, tmp_path: Path) -> Settings:
    """A number of shards that the store decides, and an archive."""
    return dataclasses.replace(settings, shards=None, archive_uri=str(tmp_path / "archive"))


@pytest.fixture
def store(kept: Settings) -> Iterator[ReshardingStore]:
    """A store that is laid out with four shards."""
    first = ReshardingStore(dataclasses.replace(kept, shards=4))
    first.lay_out()
    first.close()
    store = ReshardingStore(kept)
    yield store
    store.close()
