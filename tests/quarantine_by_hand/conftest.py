"""An ingest that asks for a key, and `flyertime quarantine` in the hands of an operator who has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from functions.cli import main
from functions.core.access import AccessKey, sha256_of
from functions.core.settings import Settings
from tests.quarantine_by_hand.rejected import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result

    from tests.conftest import FunctionProcess, ServeFunction


@pytest.fixture
def keyed(settings: Settings) -> Settings:
    """Settings with a write key."""
    line = AccessKey("phones", sha256_of(TOKEN)).line
    return Settings(redis_url=settings.redis_url, namespace=settings.namespace, shards=4, write_keys=line)


@pytest.fixture
def ingest(serve_function: ServeFunction, keyed: Settings) -> Iterator[FunctionProcess]:
    """A running ingest that asks for a key."""
    with serve_function("ingest", keyed) as process:
        yield process


@pytest.fixture
def environment(keyed: Settings, ingest: FunctionProcess) -> dict[str, str]:
    """What an operator has in their environment."""
    return {
        "FLYERTIME_REDIS_URL": keyed.redis_url,
        "FLYERTIME_NAMESPACE": keyed.namespace,
        "FLYERTIME_SHARDS": str(keyed.shards),
        "FLYERTIME_INGEST_URL": ingest.url,
        "FLYERTIME_KEY": TOKEN,
    }


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return what runs `flyertime quarantine`."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments, **more: CliRunner().invoke(main, ["quarantine", *arguments], env=environment, **more)
