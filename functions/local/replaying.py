"""Sending events to ingest: in any mode, at a rate, and again whatever ingest asks to have again.

Every event keeps its id through all retries, so nothing counts twice however often it is sent.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import httpx2

from functions.adapters.cloud_events import BATCH_TYPE, STRUCTURED_TYPE
from functions.local.reading import BadRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

MODES: Final = ("batch", "structured", "binary")
_MAX_PAUSE_S: Final = 30.0
_REASONS_KEPT: Final = 5


@dataclass(frozen=True, slots=True)
class Pace:
    """How to send."""

    mode: str = "batch"
    batch_events: int = 200
    """Events in one request; only in batch mode."""
    rate_events_s: float | None = None
    """Events a second, all senders together; None: as fast as ingest takes them."""
    senders: int = 4
    """Requests under way at the same time."""
    max_tries: int = 10
    """Times that a request is sent before its events count as failed."""
    timeout_s: float = 30.0


@dataclass(slots=True)
class Summary:
    """What became of the events, by verdict; ``failed`` ones were never answered for, ``unreadable`` never sent."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)
    """The first few reasons of rejections and failures."""
    requests: int = 0
    retries: int = 0
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether every event is in the log."""
        return not (self.counts["rejected"] or self.counts["failed"] or self.counts["unreadable"])

    def note(self, verdict: str, reason: str = "", events: int = 1) -> None:
        """Count events, and keep the reason while there are few."""
        self.counts[verdict] += events
        if reason and len(self.reasons) < _REASONS_KEPT:
            self.reasons.append(reason)


async def replay(
    events: Iterable[dict[str, Any] | BadRecord],
    url: str,
    pace: Pace,
    *,
    key: str | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Summary:
    """Send all events and return what became of them.

    Args:
        events: CloudEvents as JSON objects, or records that could not be read.
        url: Of ingest.
        pace: How to send.
        key: A write key, where ingest asks for one.
        on_progress: Called with the number of events that have just been settled.
    """
    summary = Summary()
    started_s = time.monotonic()
    batches = _batches(events, pace, summary, on_progress)
    slots = _Slots(pace.rate_events_s)
    limits = httpx2.Limits(max_connections=pace.senders)
    credentials = {"authorization": f"Bearer {key}"} if key else None
    async with httpx2.AsyncClient(
        timeout=pace.timeout_s, limits=limits, headers=credentials, trust_env=False
    ) as client:

        async def send_all() -> None:
            # The senders share one iterator; between two of its steps no other runs.
            for batch in batches:
                await slots.wait(len(batch))
                await _send(client, url, pace, batch, summary)
                on_progress(len(batch))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(pace.senders):
                tasks.create_task(send_all())
    summary.seconds = time.monotonic() - started_s
    return summary


class _Slots:
    """Moments at which events may go out, at an even rate."""

    def __init__(self, rate_events_s: float | None) -> None:
        self._rate = rate_events_s
        self._next_s = time.monotonic()

    async def wait(self, events: int) -> None:
        if self._rate:
            now_s = time.monotonic()
            slot_s = max(self._next_s, now_s)
            self._next_s = slot_s + events / self._rate
            await asyncio.sleep(slot_s - now_s)


def _batches(
    events: Iterable[dict[str, Any] | BadRecord], pace: Pace, summary: Summary, on_progress: Callable[[int], None]
) -> Iterator[list[dict[str, Any]]]:
    def readable() -> Iterator[dict[str, Any]]:
        for event in events:
            if isinstance(event, BadRecord):
                summary.note("unreadable", f"{event.place}: {event.reason}")
                on_progress(1)
            else:
                yield event

    good = readable()
    size = pace.batch_events if pace.mode == "batch" else 1
    while batch := list(islice(good, size)):
        yield batch


async def _send(
    client: httpx2.AsyncClient, url: str, pace: Pace, batch: Sequence[dict[str, Any]], summary: Summary
) -> None:
    """Send a batch until each of its events has a final verdict, or the tries are used up."""
    left = list(batch)
    reason = ""
    for attempt in range(pace.max_tries):
        headers, body = _encode(left, pace.mode)
        summary.requests += 1
        pause_s = min(0.2 * 2**attempt, _MAX_PAUSE_S) * random.uniform(0.5, 1)  # noqa: S311  # spreads the senders
        try:
            response = await client.post(url, headers=headers, content=body)
        except httpx2.HTTPError as e:
            reason = f"{url}: {type(e).__name__} {e}".strip()
        else:
            left, reason = _settle(left, response, summary)
            if not left:
                return
            asked = response.headers.get("retry-after", "")
            pause_s = max(pause_s, min(float(asked), _MAX_PAUSE_S)) if asked.isdecimal() else pause_s
        if attempt + 1 < pace.max_tries:
            summary.retries += 1
            await asyncio.sleep(pause_s)
    summary.note("failed", reason, len(left))


def _settle(
    sent: list[dict[str, Any]], response: httpx2.Response, summary: Summary
) -> tuple[list[dict[str, Any]], str]:
    """Count the final verdicts; return the events to send again, and why."""
    verdicts = _verdicts(response)
    if len(verdicts) == len(sent):
        again = []
        for event, verdict in zip(sent, verdicts, strict=True):
            if verdict["verdict"] == "retry":
                again.append(event)
            else:
                faults = "; ".join(f"{fault['pointer']} {fault['reason']}" for fault in verdict.get("faults", []))
                summary.note(verdict["verdict"], f"event {event.get('id')}: {faults}" if faults else "")
        return again, f"{url_of(response)} answered {response.status_code}"
    if response.status_code == 204:  # what a broker or ingest says to one that wants no words
        summary.note("accepted", events=len(sent))
        return [], ""
    reason = f"{url_of(response)} answered {response.status_code} {_detail(response)}".strip()
    if response.status_code in {408, 425, 429} or response.status_code >= 500:
        return sent, reason
    if response.status_code == 202 and not response.content:  # a broker: it has taken them, more it does not know
        summary.note("accepted", events=len(sent))
        return [], ""
    summary.note("failed", reason, len(sent))
    return [], ""


def url_of(response: httpx2.Response) -> str:
    """Return where a response came from, without a query."""
    return str(response.request.url.copy_with(query=None))


def _verdicts(response: httpx2.Response) -> list[Mapping[str, Any]]:
    try:
        events = response.json().get("events", [])
    except (ValueError, AttributeError):
        return []
    return events if isinstance(events, list) else []


def _detail(response: httpx2.Response) -> str:
    try:
        return str(response.json()["detail"])[:200]
    except (ValueError, KeyError, TypeError):
        return ""


def _encode(events: Sequence[dict[str, Any]], mode: str) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a request; binary and structured mode carry one event."""
    if mode == "batch":
        return {"content-type": BATCH_TYPE}, json.dumps(events).encode()
    (event,) = events
    if mode == "structured":
        return {"content-type": STRUCTURED_TYPE}, json.dumps(event).encode()
    headers = {
        f"ce-{name}": _header_value(value) for name, value in event.items() if name != "data" and value is not None
    }
    return {**headers, "content-type": "application/json"}, json.dumps(event.get("data")).encode()


def _header_value(value: object) -> str:
    """Percent-encode what may not stand in a header (CloudEvents HTTP binding §3.1.3.2)."""
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(
        character
        if "!" <= character <= "~" and character not in '"%'
        else "".join(f"%{byte:02X}" for byte in character.encode())
        for character in text
    )
