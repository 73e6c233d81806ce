"""A decision and what it was made from, as JSON for people. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from functions.core.policy import Launch
from functions.core.timestamps import format_us

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.ledger import Backlog, ShardLedger
    from functions.core.policy import Policy, Run, Wait

RUNS_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Look:
    """What trigger saw when it looked, and what it made of it."""

    now_ms: int
    ledgers: Sequence[ShardLedger]
    backlog: Backlog
    flush_ms: int | None
    runs: Sequence[Run]
    decision: Launch | Wait
    started: bool = False
    """Whether this look has started a run; also False where the run had been started already."""


def body_of(look: Look, policy: Policy, *, with_shards: bool = False) -> dict[str, object]:
    """Return the explanation; times are RFC 3339, durations are in seconds.

    Args:
        look: What to explain.
        policy: What the decision followed.
        with_shards: Whether to add the books of each shard.
    """
    decision, backlog = look.decision, look.backlog
    launch = isinstance(decision, Launch)
    oldest_ms = backlog.oldest_pending_ms
    body: dict[str, object] = {
        "decision": "launch" if launch else "wait",
        "cause": decision.cause.value,
        "explanation": decision.explanation,
        "run": decision.name if isinstance(decision, Launch) else None,
        "started": look.started,
        "look_again_s": 0 if isinstance(decision, Launch) else _rounded(decision.look_again_s),
        "now": _moment(look.now_ms),
        "backlog": {
            "pending_events": backlog.pending_events,
            "oldest_received_at": _moment(oldest_ms),
            "oldest_age_s": None if oldest_ms is None else max(0.0, (look.now_ms - oldest_ms) / 1000),
            "digest": backlog.digest,
        },
        "flush_requested_until": _moment(look.flush_ms),
        "policy": dataclasses.asdict(policy),
        "runs": [_run(run) for run in sorted(look.runs, key=_newest_first)[:RUNS_SHOWN]],
    }
    if with_shards:
        body["shards"] = [
            {
                "shard": ledger.shard,
                "accepted": ledger.accepted,
                "duplicate": ledger.duplicate,
                "folded": ledger.folded,
                "pending_events": ledger.pending,
                "folded_to": ledger.folded_to,
                "oldest_received_at": _moment(ledger.oldest_pending_ms),
            }
            for ledger in look.ledgers
        ]
    return body


def _run(run: Run) -> dict[str, object]:
    return {
        "name": run.name,
        "attempt": run.attempt,
        "state": run.state.value,
        "ended_at": _moment(run.ended_ms),
        "message": run.message,
    }


def _newest_first(run: Run) -> tuple[bool, int, str]:
    """Order runs: active ones, then from the last that ended."""
    return (run.ended_ms is not None, -(run.ended_ms or 0), run.name)


def _moment(moment_ms: int | None) -> str | None:
    return None if moment_ms is None else format_us(moment_ms * 1000)


def _rounded(duration_s: float | None) -> float | None:
    return None if duration_s is None else round(duration_s, 3)
