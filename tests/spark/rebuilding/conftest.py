"""A store of two shards with an archive, whose state tests build anew."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from functions.adapters.redis_generations import GenerationStore
from tests.spark.rebuilding.events_and_state import SHARDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.core.settings import Settings


@pytest.fixture
def kept(settings: Settings, tmp_path: Path) -> Settings:
    """Two shards, and an archive."""
    return dataclasses.replace(settings, shards=SHARDS, archive_uri=str(tmp_path / "archive"), lateness_s=10_000_000)


@pytest.fixture
def store(kept: Settings) -> Iterator[GenerationStore]:
    """A store that is laid out."""
    store = GenerationStore(kept)
    store.lay_out()
    yield store
    store.close()
