"""One ingest process for all tests here, and the plain ways to talk to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from functions.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import ServeFunction

EVENT = {
    "timestamp": "2018-10-01T13:54:59-04:00",
    "user_id": "9ea6",
    "event": "flyer_open",
    "flyer_id": "f1",
    "merchant_id": "m1",
}


@pytest.fixture(scope="module")
def ingest_settings(valkey: EmbeddedValkey, request: pytest.FixtureRequest) -> Settings:
    """Settings of the process: a namespace of the module's own."""
    return Settings(redis_url=valkey.url, namespace=request.module.__name__.rpartition(".")[2], shards=4)


@pytest.fixture(scope="module")
def ingest(serve_function: ServeFunction, ingest_settings: Settings) -> Iterator[httpx2.Client]:
    """A client of a running ingest function with small limits."""
    limits = {"FLYERTIME_MAX_BODY_BYTES": "20000", "FLYERTIME_MAX_REQUEST_EVENTS": "50"}
    with (
        serve_function("ingest", ingest_settings, **limits) as process,
        httpx2.Client(base_url=process.url, timeout=10, trust_env=False) as client,
    ):
        yield client


@pytest.fixture
def app_event() -> Callable[..., dict[str, Any]]:
    """Return what makes an app event, some fields as told."""
    return lambda **fields: {**EVENT, **fields}


@pytest.fixture
def structured(request: pytest.FixtureRequest) -> Callable[..., dict[str, Any]]:
    """Return what makes a CloudEvent in JSON; its id is unlike that of any other test's."""
    test = request.node.name

    def make(event_id: str = "1", **attributes: Any) -> dict[str, Any]:
        event = {"specversion": "1.0", "id": f"{test}-{event_id}", "source": "/tests", "type": "t", "data": EVENT}
        return {**event, **attributes}

    return make


@pytest.fixture
def post_events(ingest: httpx2.Client) -> Callable[..., httpx2.Response]:
    """Return what posts a CloudEvent, or a list of them as a batch."""

    def post(events: object, **headers: str) -> httpx2.Response:
        kind = "cloudevents-batch" if isinstance(events, list) else "cloudevents"
        return ingest.post(
            "/", content=json.dumps(events), headers={"content-type": f"application/{kind}+json", **headers}
        )

    return post
