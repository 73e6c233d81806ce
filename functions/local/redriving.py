"""Sending events of the quarantine to ingest again.

An event leaves the quarantine only after ingest has said that it is in the log (or was before): whatever is killed, it
is sent again, and its name makes that count once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx2
import msgspec

from functions.adapters.cloud_events import BATCH_TYPE
from functions.core.errors import RequestRefusedError, UnavailableError
from functions.local.correcting import event_of, goes_alone, to_send
from functions.local.quarantined import told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from functions.adapters.redis_quarantine import Entry
    from functions.core.errors import Fault
    from functions.local.quarantined import Choice, Operator

    Say: TypeAlias = Callable[[str], None]

BATCH_EVENTS: Final = 200
BATCH_BYTES: Final = 1 << 20
MAX_TRIES: Final = 8
_TIMEOUT_S: Final = 30.0
_MAX_PAUSE_S: Final = 60.0


@dataclass(slots=True)
class Redriven:
    """What became of the events, by verdict; ``failed`` ones were never answered for and are still there."""

    counts: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    """Neither corrected nor right by now."""

    @property
    def complete(self) -> bool:
        """Whether nothing that was to be sent is left."""
        return not (self.counts["rejected"] or self.counts["failed"])


async def redrive(
    operator: Operator,
    choice: Choice,
    url: str,
    *,
    key: str | None = None,
    dry_run: bool = False,
    say: Say = lambda _: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Redriven:
    """Send events to ingest again; what it takes, or has taken before, leaves the quarantine.

    Sent are the entries that were corrected; of those that were named or chosen, also the ones that are right as
    they came: a limit was raised, say, or their time has come.

    Args:
        operator: Whose quarantine it is.
        choice: Which entries.
        url: Of ingest.
        key: A write key, where ingest asks for one.
        dry_run: Whether only to say what would be sent.
        say: Told a line about each event that is not taken, and on a dry run about each one.
        on_progress: Told how many events have just been settled.

    Raises:
        RequestRefusedError: Ingest refuses us, or an id names nothing.
        UnavailableError: Ingest cannot be reached, or not just now; what was taken until then has left.
    """
    redriven = Redriven()
    batch: list[tuple[Entry, bytes]] = []
    headers = {"content-type": BATCH_TYPE, "prefer": "quarantine=no"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    async with httpx2.AsyncClient(timeout=_TIMEOUT_S, headers=headers, trust_env=False) as client:

        async def send() -> None:
            if batch:
                await _send(operator, client, url, batch, redriven, say)
                on_progress(len(batch))
                batch.clear()

        async for entry in operator.entries(choice):
            faults = _faults_to_tell(operator, entry, choice)
            if faults is None:
                redriven.left_out += 1
                continue
            if faults:
                redriven.left_out += 1
                say(f"{entry.id}: {told(faults)}")
                continue
            if dry_run:
                redriven.counts["would be sent"] += 1
                say(f"{entry.id}: would be sent" + ("" if entry.fixed is None else ", corrected"))
                continue
            event = to_send(entry)
            body = msgspec.json.encode(event)
            if goes_alone(event) or sum(len(each) for _, each in batch) + len(body) > BATCH_BYTES:
                await send()
            batch.append((entry, body))
            if goes_alone(event) or len(batch) == BATCH_EVENTS:
                await send()
        await send()
    return redriven


def _faults_to_tell(operator: Operator, entry: Entry, choice: Choice) -> tuple[Fault, ...] | None:
    """Return why an entry is not sent: nothing where it is; None where nobody asked for it."""
    if entry.fixed is None and not choice.narrow:
        return None
    return operator.faults_of(entry, event_of(entry))


async def _send(
    operator: Operator,
    client: httpx2.AsyncClient,
    url: str,
    batch: Sequence[tuple[Entry, bytes]],
    redriven: Redriven,
    say: Say,
) -> None:
    """Send a batch until each of its events has a final verdict, and take out those that are in the log."""
    left = list(batch)
    reason = ""
    for attempt in range(MAX_TRIES):
        pause_s = min(0.2 * 2**attempt, _MAX_PAUSE_S)
        try:
            response = await client.post(url, content=b"[" + b",".join(body for _, body in left) + b"]")
        except httpx2.HTTPError as e:
            reason = f"{url} does not answer ({type(e).__name__})"
        else:
            verdicts = _verdicts_by_entry(response, left)
            if verdicts is None:
                reason = _refusal(url, response)
            else:
                left = await _settle(operator, left, verdicts, redriven, say)
                if not left:
                    return
                reason = f"{url} asks for a retry"
            asked = response.headers.get("retry-after", "")
            pause_s = max(pause_s, min(float(asked), _MAX_PAUSE_S)) if asked.isdecimal() else pause_s
        if attempt + 1 < MAX_TRIES:
            await asyncio.sleep(pause_s)
    redriven.counts["failed"] += len(left)
    raise UnavailableError("not_redriven", f"{reason}; {len(left)} events of this batch are still in the quarantine")


async def _settle(
    operator: Operator,
    sent: Sequence[tuple[Entry, bytes]],
    verdicts: Sequence[Sequence[Mapping[str, Any]]],
    redriven: Redriven,
    say: Say,
) -> list[tuple[Entry, bytes]]:
    """Note the verdicts; return what has to be sent again."""
    done: list[str] = []
    again: list[tuple[Entry, bytes]] = []
    for (entry, body), answers in zip(sent, verdicts, strict=True):
        kinds = {answer["verdict"] for answer in answers}
        if "retry" in kinds:
            again.append((entry, body))
        elif "rejected" in kinds:
            redriven.counts["rejected"] += 1
            faults = [fault for answer in answers for fault in answer.get("faults", ())]
            say(f"{entry.id}: rejected: " + "; ".join(f"{each['pointer']} {each['reason']}" for each in faults))
        else:
            redriven.counts["accepted" if "accepted" in kinds else "duplicate"] += 1
            done.append(entry.id)
    await operator.taken(done)
    return again


def _verdicts_by_entry(
    response: httpx2.Response, sent: Sequence[tuple[Entry, bytes]]
) -> list[list[Mapping[str, Any]]] | None:
    """Return the verdicts on each entry; None where the answer has none that fit."""
    try:
        events = response.json()["events"]
    except (ValueError, KeyError, TypeError):
        return None
    if len(sent) == 1:
        return [events]
    return [[event] for event in events] if len(events) == len(sent) else None


def _refusal(url: str, response: httpx2.Response) -> str:
    """Return what ingest says to the whole request.

    Raises:
        RequestRefusedError: It would say the same again.
    """
    try:
        detail = str(response.json()["detail"])[:200]
    except (ValueError, KeyError, TypeError):
        detail = "without a verdict"
    reason = f"{url} answered {response.status_code}: {detail}"
    if response.status_code < 500 and response.status_code not in {408, 425, 429}:
        raise RequestRefusedError("redrive_refused", reason)
    return reason
