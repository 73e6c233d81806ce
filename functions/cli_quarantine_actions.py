"""What the commands of ``flyertime quarantine`` do and print; functions/cli_quarantine.py has their arguments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from functions.cli_progress import Progress, events
from functions.local import redriving
from functions.local.correcting import event_of, with_value, without_value
from functions.local.quarantined import Operator, shown, told
from functions.local.tables import quarantine_table

if TYPE_CHECKING:
    from functions.adapters.redis_quarantine import Books, Entry
    from functions.core.settings import Settings
    from functions.local.quarantined import Choice
    from functions.local.redriving import Redriven


async def list_(settings: Settings, choice: Choice, limit: int, *, as_json: bool) -> None:
    """Print the entries of a choice, as a table or one JSON object a line."""
    async with Operator(settings) as operator:
        rows: list[Entry] = []
        more = 0
        async for entry in operator.entries(choice):
            if as_json:
                click.echo(json.dumps(shown(entry)))
            elif len(rows) < limit:
                rows.append(entry)
            else:
                more += 1
        if not as_json:
            click.echo(quarantine_table([shown(entry) for entry in rows]) if rows else "   no such event")
            if more:
                click.echo(f"   … and {more:,} more: --limit, or --json for all")
            click.echo(_summary(await operator.books(), settings))


async def show(settings: Settings, entry_id: str) -> None:
    """Print one entry, as JSON."""
    async with Operator(settings) as operator:
        entry = await operator.entry(entry_id)
    click.echo(json.dumps(shown(entry), indent=2, ensure_ascii=False))


async def fix(
    settings: Settings, choice: Choice, changes: list[tuple[str, str, Any]], text: str | None, *, edit: bool
) -> bool:
    """Correct the entries of a choice, print what is still wrong; return whether nothing is."""
    fixed, faulty = 0, 0
    async with Operator(settings) as operator:
        async for entry in operator.entries(choice):
            event = event_of(entry)
            if edit:
                text = click.edit(json.dumps(event, indent=2, ensure_ascii=False), extension=".json")
                if text is None:
                    raise click.ClickException("nothing was saved in the editor; nothing is changed")
            if text is not None:
                event = json_of(text)
            for what, pointer, value in changes:
                raw = entry.record.raw
                event = (
                    with_value(event, pointer, value, raw=raw)
                    if what == "set"
                    else without_value(event, pointer, raw=raw)
                )
            if faults := await operator.fix(entry, event):
                faulty += 1
                click.echo(f"{entry.id}: still wrong: {told(faults)}", err=True)
            else:
                fixed += 1
    click.echo(f"{fixed:,} corrected" + (f", {faulty:,} still wrong and not changed" if faulty else ""))
    return fixed > 0 and not faulty


async def redrive(settings: Settings, choice: Choice, url: str, key: str | None, *, dry_run: bool) -> bool:
    """Send the entries of a choice to ingest, print what became of them; return whether nothing is left to send."""
    with Progress(events) as progress:
        async with Operator(settings) as operator:
            redriven = await redriving.redrive(
                operator, choice, url, key=key, dry_run=dry_run, say=progress.say, on_progress=progress.add
            )
            books = await operator.books()
    click.echo(_outcome(redriven))
    click.echo(f"in the quarantine: {books.events:,}, {books.fixed:,} of them corrected")
    return redriven.complete


async def discard(settings: Settings, choice: Choice) -> None:
    """Throw the entries of a choice away, and print how many these were."""
    async with Operator(settings) as operator:
        click.echo(f"{await operator.discard(choice):,} thrown away")


def json_of(text: str) -> Any:
    """Return what a text is as JSON, or say that it is none."""
    try:
        return json.loads(text)
    except ValueError as e:
        raise click.UsageError(f"this is not JSON ({e}): {text[:60]}") from None


def _outcome(redriven: Redriven) -> str:
    counts = [f"{count:,} {verdict}" for verdict, count in sorted(redriven.counts.items()) if count]
    left_out = f"{redriven.left_out:,} left out: not corrected, or wrong still" if redriven.left_out else ""
    return ", ".join(filter(None, [*counts, left_out])) or "nothing to send"


def _summary(books: Books, settings: Settings) -> str:
    caps = f"at most {settings.quarantine_max_events:,} events and {settings.quarantine_max_bytes / 1e6:.1f} MB"
    if settings.quarantine_max_age_s:
        caps += f", each for {settings.quarantine_max_age_s / 86_400:.3g} days"
    ever = ", ".join(
        f"{getattr(books, name):,} {name}" for name in ("kept", "redriven", "discarded", "erased", "expired")
    )
    lines = [
        f"now: {books.events:,}, {books.fixed:,} of them corrected, {books.bytes / 1e6:.1f} MB; {caps}",
        f"ever: {ever}",
    ]
    if books.pushed_out or books.over_share:
        lines.append(
            f"lost to the caps: {books.pushed_out:,} pushed out by newer ones, {books.over_share:,} by newer ones of "
            "their own key, or with their own fault, which had half of the room"
        )
    return "\n".join(f"   {line}" for line in lines)
