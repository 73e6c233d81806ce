"""Sending one CloudEvent somewhere: a broker, a function, a sink that Knative has bound."""

from __future__ import annotations

import logging

from functions.adapters import cloud_events
from functions.core.errors import UnavailableError

logger = logging.getLogger(__name__)


async def deliver(url: str, event_type: str, source: str, data: object, *, event_id: str, timeout_s: float) -> None:
    """Send a CloudEvent.

    Raises:
        UnavailableError: Nobody took it in time.
    """
    import httpx2  # noqa: PLC0415  # 60 ms that a start from zero need not wait for

    headers, body = cloud_events.new_event(event_type, source, data, event_id=event_id)
    try:
        async with httpx2.AsyncClient(timeout=timeout_s, trust_env=False) as client:
            response = await client.post(url, headers=headers, content=body)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as e:
        raise UnavailableError("sink_unavailable", f"the event sink cannot be reached: {type(e).__name__}") from e
    if response.status_code >= 300:
        raise UnavailableError("sink_refused", f"the event sink answered {response.status_code}")
