"""A stand-in for Knative's broker: delivers one event to a function by the rules of its filter and dispatcher.

What counts as success and what is tried again is from knative/eventing: ``pkg/broker/filter/filter_handler.go``
(writeResponse) and ``pkg/kncloudevents/retries.go`` (SelectiveRetry).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import httpx2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RETRIED: Final = frozenset({404, 408, 409, 429})
"""Statuses that are tried again, besides all from 500 on and no answer at all."""


@dataclass
class Delivery:
    """What became of one event."""

    delivered: bool = False
    statuses: list[int | None] = field(default_factory=list)
    """Of each attempt; None where nobody answered."""
    dead_letter_reason: str = ""
    """Body of the last answer, of which Knative keeps the first 1,024 bytes beside a dead letter."""


def is_event(response: httpx2.Response) -> bool:
    """Tell whether a response is a CloudEvent, in either mode."""
    return "ce-specversion" in response.headers or response.headers.get("content-type", "").startswith(
        "application/cloudevents"
    )


def deliver(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    retries: int = 5,
    pause_s: float = 0.2,
    between: Callable[[int], None] = lambda _: None,
) -> Delivery:
    """Deliver an event; ``between`` is called with the number of attempts after each that failed."""
    delivery = Delivery()
    for attempt in range(retries + 1):
        try:
            response = httpx2.post(
                url, headers={**headers, "prefer": "reply"}, content=body, timeout=30, trust_env=False
            )
        except httpx2.HTTPError:
            delivery.statuses.append(None)
        else:
            status = response.status_code
            if status < 300 and response.content and not is_event(response):
                status = 502  # the filter's own answer: the reply is not an event
            delivery.statuses.append(status)
            delivery.dead_letter_reason = response.text[:1024]
            if status < 300:
                delivery.delivered = True
                return delivery
            if status < 500 and status not in RETRIED:
                return delivery
        between(attempt + 1)
        time.sleep(pause_s * 2**attempt)
    return delivery
