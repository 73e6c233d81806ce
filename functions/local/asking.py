"""Asking a running pipeline: its functions over HTTP, its store for the books."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import httpx2

from functions.adapters import cloud_events
from functions.adapters.redis_store import RedisStore
from functions.core import event_types
from functions.core.errors import RequestRefusedError, UnavailableError
from functions.core.ledger import position_of

if TYPE_CHECKING:
    from functions.core.ledger import ShardLedger
    from functions.core.settings import Settings

_TIMEOUT_S = 60.0


def get_json(url: str) -> Any:
    """Return what a function answers.

    Raises:
        UnavailableError: Nobody answers there, or not now.
        RequestRefusedError: It says no.
    """
    return _answer("GET", url).json()


def request_flush(trigger_url: str) -> None:
    """Tell trigger to fold what is pending.

    Raises:
        UnavailableError: Nobody answers there, or not now.
        RequestRefusedError: It says no.
    """
    headers, body = cloud_events.new_event(event_types.FLUSH_REQUESTED, "/flyertime/cli", {})
    _answer("POST", trigger_url, headers=headers, content=body)


def _answer(method: str, url: str, **arguments: Any) -> httpx2.Response:
    try:
        response = httpx2.request(method, url, timeout=_TIMEOUT_S, trust_env=False, **arguments)
    except (httpx2.HTTPError, httpx2.InvalidURL) as e:
        raise UnavailableError("no_answer", f"{url} does not answer ({type(e).__name__}): is it running?") from e
    if response.is_success:
        return response
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = ""
    message = f"{url} answered {response.status_code}: {detail}"
    if response.status_code >= 500:
        raise UnavailableError("no_answer", message)
    raise RequestRefusedError("refused", message)


async def state_of(settings: Settings) -> tuple[list[ShardLedger], list[dict[str, str]]]:
    """Return every shard's books, and what the last runs did; neither where the store is new, and it stays so."""
    store = RedisStore(settings)
    try:
        if await store.is_new():
            return [], []
        return await store.ledgers(), await store.runs()
    finally:
        await store.close()


async def wait_until_folded(settings: Settings, timeout_s: float) -> int:
    """Wait until all that is pending now is folded; return how many events came in since.

    Raises:
        UnavailableError: It took longer.
    """
    store = RedisStore(settings)
    try:
        deadline_s = time.monotonic() + timeout_s
        wanted = {ledger.shard: ledger.newest_id for ledger in await store.ledgers()}
        while True:
            ledgers = await store.ledgers()
            if all(
                upto is None or position_of(ledgers[shard].folded_to) >= position_of(upto)
                for shard, upto in wanted.items()
            ):
                return sum(ledger.pending for ledger in ledgers)
            if time.monotonic() > deadline_s:
                pending = sum(ledger.pending for ledger in ledgers)
                raise UnavailableError("not_folded", f"{pending} events are still pending after {timeout_s:g} s")
            await asyncio.sleep(0.25)
    finally:
        await store.close()
