"""One running stack for all end-to-end tests: Valkey, three functions, local Spark, as ``flyertime run`` starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.local.stack import TARGETS, Stack
from functions.local.valkey import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack on free ports: 100 events are enough for a run, and older ones than ten seconds are too."""
    environment = {"FLYERTIME_THRESHOLD_EVENTS": "100", "FLYERTIME_MAX_AGE_S": "10", "FLYERTIME_SHARDS": "4"}
    ports = {name: free_port() for name in ("valkey", *TARGETS)}
    with Stack(tmp_path_factory.mktemp("stack"), ports=ports, environment=environment, ping_s=1) as running:
        yield running
