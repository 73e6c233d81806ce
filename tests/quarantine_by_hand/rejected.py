"""Events that ingest rejects, and what is said of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2

from functions.adapters.redis_shard import ShardStore
from functions.core.packing import unpack_events

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from functions.core.settings import Settings
    from tests.conftest import FunctionProcess

DATA = {"timestamp": "2026-03-02T08:00:00Z", "user_id": "u", "event": "flyer_open", "flyer_id": "f", "merchant_id": "m"}
BAD = {**DATA, "user_id": None}
TOKEN = "ftw_phones-0123456789abcdef"


def event(event_id: str, data: Any, **more: Any) -> dict[str, Any]:
    """Return a CloudEvent."""
    return {"specversion": "1.0", "id": event_id, "source": "/phone", "type": "t", "data": data, **more}


def post(ingest: FunctionProcess, body: object, path: str = "/", **headers: str) -> list[dict[str, Any]]:
    """Post a batch or an array and return what is said of each event."""
    kind = "cloudevents-batch+json" if path == "/" else "json"
    all_headers = {"content-type": f"application/{kind}", "authorization": f"Bearer {TOKEN}", **headers}
    reply = httpx2.post(
        ingest.url + path, content=json.dumps(body), headers=all_headers, timeout=20, trust_env=False
    ).json()
    return list(reply["events"]) if isinstance(reply, dict) else []


def users(settings: Settings) -> list[str]:
    """Return the users of all events in the log."""
    store = ShardStore(settings)
    try:
        return sorted(
            event.user_id
            for shard in range(4)
            for _, entry in store.log(shard, "0-0", "+")
            for event in unpack_events(entry)
        )
    finally:
        store.close()


def listed(run: Callable[..., Result], *arguments: str) -> list[dict[str, Any]]:
    """Return what the list has."""
    result = run("list", "--json", *arguments)
    assert 0 == result.exit_code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]
