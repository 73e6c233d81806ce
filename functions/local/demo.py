"""The demo: the whole pipeline on made-up events, its report checked against a plain computation of another kind."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from functions.core.errors import UnavailableError
from functions.core.events import FLYER_EVENTS
from functions.core.settings import Settings
from functions.core.timestamps import parse_us
from functions.local.asking import get_json, request_flush, state_of
from functions.local.generating import generate
from functions.local.replaying import Pace, replay
from functions.local.stack import TARGETS, Stack
from functions.local.tables import ledger_table, rows_table
from functions.local.valkey import free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from functions.core.ledger import ShardLedger

SEED: Final = 2026
EVENTS: Final = 20_000
FIRST_SHARE: Final = 0.8
"""Of the events, sent first: they pass the threshold, so that a run starts by itself; the rest needs a flush."""
_ROWS_SHOWN: Final = 8
_TIMEOUT_S: Final = 120.0


def run_demo(events: int = EVENTS, seed: int = SEED) -> bool:
    """Run the demo and tell whether the report is right."""
    made = list(generate(seed, events))
    first = made[: round(len(made) * FIRST_SHARE)]
    rest = made[len(first) :]
    distinct = len({event["id"] for event in made})
    threshold_events = len(first) // 2
    with tempfile.TemporaryDirectory(prefix="flyertime-demo-") as folder:
        click.echo("1. Starting Valkey, ingest, trigger and report")
        stack = Stack(
            Path(folder),
            ports={name: free_port() for name in ("valkey", *TARGETS)},
            environment={"FLYERTIME_THRESHOLD_EVENTS": str(threshold_events), "FLYERTIME_MAX_AGE_S": "3600"},
            ping_s=1.0,
        )
        with stack:
            for target in TARGETS:
                click.echo(f"   {target:8} {stack.urls[target]}")
            click.echo(
                f"\n2. Sending {len(first):,} events, some of them repeats, late or out of order; "
                f"{threshold_events:,} are enough for a run"
            )
            _send(first, stack.urls["ingest"])
            _wait_for_run(stack, runs_before=0)
            click.echo(f"\n3. Sending the other {len(rest):,}, too few for a run by themselves, and asking for a flush")
            _send(rest, stack.urls["ingest"])
            request_flush(stack.urls["trigger"])
            ledgers = _wait_for_run(stack, runs_before=1, all_folded=True)
            report = get_json(stack.urls["report"])
            click.echo(f"\n4. The report: {len(report)} users, average time on flyer in hours\n")
            click.echo(rows_table(report[:_ROWS_SHOWN]))
            click.echo(f"   … and {len(report) - _ROWS_SHOWN:,} more" if len(report) > _ROWS_SHOWN else "")
            click.echo("\n5. The ledger\n")
            click.echo(ledger_table(ledgers))
            return _check(report, made, ledgers, distinct)


def _send(events: Sequence[dict[str, Any]], url: str) -> None:
    with click.progressbar(length=len(events), label="   replay", file=sys.stderr) as bar:
        summary = asyncio.run(replay(events, url, Pace(batch_events=200), on_progress=bar.update))
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in summary.counts.items())
    click.echo(f"   {counts}; {summary.requests} requests in {summary.seconds:.1f} s")


def _wait_for_run(stack: Stack, runs_before: int, *, all_folded: bool = False) -> list[ShardLedger]:
    """Wait until a further run is on record, and nothing is pending where asked for; return the books."""
    settings = Settings(redis_url=stack.valkey.url)
    deadline_s = time.monotonic() + _TIMEOUT_S
    click.echo("   Spark runs …")
    while True:
        ledgers, runs = asyncio.run(state_of(settings))
        if len(runs) > runs_before and not (all_folded and any(ledger.pending for ledger in ledgers)):
            for run in reversed(runs[: len(runs) - runs_before]):
                click.echo(
                    f"   run {run['run']} {run['state']}: {int(run['events']):,} events of {run['shards']} shards"
                )
            return ledgers
        if time.monotonic() > deadline_s:
            why = get_json(stack.urls["trigger"])["explanation"]
            raise UnavailableError("not_folded", f"events still pending after {_TIMEOUT_S:.0f} s; trigger says: {why}")
        time.sleep(0.2)


def _check(
    report: Sequence[Mapping[str, Any]],
    made: Iterable[Mapping[str, Any]],
    ledgers: Sequence[ShardLedger],
    distinct_events: int,
) -> bool:
    expected = averages_by_pairing(made)
    shown = {row["user_id"]: row["avg_time_on_flyer_per_user_hours"] for row in report}
    accepted, folded = sum(ledger.accepted for ledger in ledgers), sum(ledger.folded for ledger in ledgers)
    right = shown == expected and accepted == folded == distinct_events
    wrong = sorted(user for user in shown.keys() | expected.keys() if shown.get(user) != expected.get(user))
    if right:
        click.secho(
            f"\nChecked: all {len(expected)} averages equal those of a plain computation, and each of the "
            f"{distinct_events} events counts once.",
            fg="green",
        )
    else:
        click.secho(
            f"\nWRONG: {len(wrong)} averages differ {wrong[:3]}; {accepted} events accepted and {folded} folded of "
            f"{distinct_events}",
            fg="red",
        )
    return right


def averages_by_pairing(events: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return each user's average in hours, by the letter of the definition: sort, pair neighbours, take whole seconds.

    It shares no code with the pipeline but the reading of timestamps: a repeat is an event whose id was there before.
    """
    moments: dict[tuple[str, str], list[int]] = defaultdict(list)
    known: set[str] = set()
    for event in events:
        data = event["data"]
        if event["id"] not in known and data["event"] in FLYER_EVENTS:
            moments[data["user_id"], data["flyer_id"]].append(parse_us(data["timestamp"]) // 1_000_000)
        known.add(event["id"])
    durations_s: dict[str, list[int]] = defaultdict(list)
    for (user, _), seconds in moments.items():
        in_order = sorted(seconds)
        durations_s[user] += [end - start for start, end in pairwise(in_order)]
    return {
        user: float(Decimal(repr(sum(some) / len(some) / 3600)).quantize(Decimal("0.01"), ROUND_HALF_UP))
        for user, some in durations_s.items()
        if some
    }
