"""``flyertime quarantine``: rejected events, to look at, to correct, and to send again."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.adapters.redis_quarantine import Books, Entry
    from functions.core.settings import Settings
    from functions.local.redriving import Choice, Redriven

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _choosing(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose entries."""
    for option in (
        click.option("--since", help="Received since: a time (RFC 3339), or how long ago: 90s, 15m, 2h, 3d."),
        click.option("--key-name", help="Received with this write key."),
        click.option("--source", help="Of this CloudEvents source, or one that begins so."),
        click.option("--code", help="With a fault of this code; docs/ingest.md lists them."),
    ):
        command = option(command)
    return command


def add_to(group: click.Group, settings_of: Callable[[], Settings], ingest_url_of: Callable[[], str]) -> None:
    """Add the commands.

    Args:
        group: Where to.
        settings_of: Gives the settings of the store that is meant.
        ingest_url_of: Gives the address of ingest where none is named.
    """

    @group.group()
    def quarantine() -> None:
        """Rejected events: list them, show them, correct them, send them again.

        \b
        flyertime quarantine list --code missing --since 2h
        flyertime quarantine fix 1764000000000-0 --set /user_id=ann
        flyertime quarantine redrive
        """  # noqa: D301  # \b is click's mark for a block that keeps its lines

    @quarantine.command(name="list")
    @_choosing
    @click.option("--fixed/--not-fixed", default=None, help="Only corrected ones, or only others.  [default: both]")
    @click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="Rows of the table.")
    @click.option("--json", "as_json", is_flag=True, help="All of them, one JSON object a line, as `show` prints one.")
    def list_(limit: int, as_json: bool, **chosen: Any) -> None:
        """List rejected events, the oldest first, and what the caps pushed out."""
        asyncio.run(_list(settings_of(), _choice((), **chosen), limit, as_json=as_json))

    @quarantine.command()
    @click.argument("entry_id", metavar="ID")
    def show(entry_id: str) -> None:
        """Show one rejected event: its faults, the event as it came, and as it was corrected."""
        asyncio.run(_show(settings_of(), entry_id))

    @quarantine.command()
    @click.argument("ids", metavar="[ID]...", nargs=-1)
    @_choosing
    @click.option(
        "--set", "texts", multiple=True, metavar="POINTER=TEXT",
        help="Set a field to a text: /user_id=ann, /ce-type=t. May be repeated.",
    )  # fmt: skip
    @click.option(
        "--set-json", "values", multiple=True, metavar="POINTER=JSON",
        help="Set a field to a JSON value: /flyer_id=null; all the data: /data={…}.",
    )  # fmt: skip
    @click.option("--remove", "removed", multiple=True, metavar="POINTER", help="Take a field out.")
    @click.option("--file", "file", type=click.File(), help="The corrected event as JSON; - is standard input.")
    @click.option("--edit", is_flag=True, help="Correct it in an editor ($EDITOR).")
    def fix(
        ids: tuple[str, ...],
        texts: tuple[str, ...],
        values: tuple[str, ...],
        removed: tuple[str, ...],
        file: TextIO | None,
        edit: bool,
        **chosen: Any,
    ) -> None:
        """Correct rejected events; each is kept beside what came, and `redrive` sends it.

        A POINTER is what the faults name: /user_id is a field of the event's data, /ce-id an attribute of the
        CloudEvent. An event keeps its id and its source. Where something is still wrong, nothing is changed. Exit
        status 0 only where all of them are right now.
        """
        if bool(file or edit) == bool(texts or values or removed) or (file and edit):
            raise click.UsageError("say what to correct: --set, --set-json and --remove, or --file, or --edit")
        choice = _choice(ids, **chosen)
        if not choice.narrow or ((file or edit) and len(ids) != 1):
            raise click.UsageError(
                "name the events by their ids, or choose some: --code, --source, --key-name, --since"
            )
        changes = [
            *(("set", *_assignment(text)) for text in texts),
            *(("set", pointer, _json_of(value)) for pointer, value in map(_assignment, values)),
            *(("remove", pointer, None) for pointer in removed),
        ]
        if not asyncio.run(_fix(settings_of(), choice, changes, None if file is None else file.read(), edit=edit)):
            sys.exit(1)

    @quarantine.command()
    @click.argument("ids", metavar="[ID]...", nargs=-1)
    @_choosing
    @click.option("--to", "url", envvar="FLYERTIME_INGEST_URL", help="URL of ingest.  [default: the running stack's]")
    @click.option(
        "--key", envvar="FLYERTIME_KEY", help="Write key, where ingest asks for one; better in FLYERTIME_KEY."
    )
    @click.option("--dry-run", is_flag=True, help="Only say what would be sent, and why the rest would not.")
    def redrive(ids: tuple[str, ...], url: str | None, key: str | None, dry_run: bool, **chosen: Any) -> None:
        """Send events to ingest again: all corrected ones, or of those chosen every one that is right by now.

        What ingest takes, or has taken before, leaves the quarantine; stopped at any moment, it can be called again,
        and nothing counts twice. Exit status 0 only where nothing that was sent is left.
        """
        target = url or ingest_url_of()
        if not asyncio.run(_redrive(settings_of(), _choice(ids, **chosen), target, key, dry_run=dry_run)):
            sys.exit(1)

    @quarantine.command()
    @click.argument("ids", metavar="[ID]...", nargs=-1)
    @_choosing
    @click.option("--all", "every", is_flag=True, help="All of them.")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    def discard(ids: tuple[str, ...], every: bool, yes: bool, **chosen: Any) -> None:
        """Throw rejected events away, for good."""
        choice = _choice(ids, **chosen)
        if choice.narrow == every:
            raise click.UsageError("name the events by their ids, or choose some (--code, --source, …), or say --all")
        if not yes:
            click.confirm("Throw these events away for good?", abort=True, err=True)
        asyncio.run(_discard(settings_of(), choice))


async def _list(settings: Settings, choice: Choice, limit: int, *, as_json: bool) -> None:
    from functions.local.redriving import Operator, shown  # noqa: PLC0415  # each command imports what it needs
    from functions.local.tables import quarantine_table  # noqa: PLC0415

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


async def _show(settings: Settings, entry_id: str) -> None:
    from functions.local.redriving import Operator, shown  # noqa: PLC0415

    async with Operator(settings) as operator:
        entry = await operator.entry(entry_id)
    click.echo(json.dumps(shown(entry), indent=2, ensure_ascii=False))


async def _fix(
    settings: Settings, choice: Choice, changes: list[tuple[str, str, Any]], text: str | None, *, edit: bool
) -> bool:
    from functions.local.correcting import event_of, with_value, without_value  # noqa: PLC0415
    from functions.local.redriving import Operator, told  # noqa: PLC0415

    fixed, faulty = 0, 0
    async with Operator(settings) as operator:
        async for entry in operator.entries(choice):
            event = event_of(entry)
            if edit:
                text = click.edit(json.dumps(event, indent=2, ensure_ascii=False), extension=".json")
                if text is None:
                    raise click.ClickException("nothing was saved in the editor; nothing is changed")
            if text is not None:
                event = _json_of(text)
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


async def _redrive(settings: Settings, choice: Choice, url: str, key: str | None, *, dry_run: bool) -> bool:
    from functions.local.redriving import Operator  # noqa: PLC0415

    progress = _Progress()
    try:
        async with Operator(settings) as operator:
            redriven = await operator.redrive(
                choice, url, key=key, dry_run=dry_run, say=progress.say, on_progress=progress.add
            )
            books = await operator.books()
    finally:
        progress.end()
    click.echo(_outcome(redriven))
    click.echo(f"in the quarantine: {books.events:,}, {books.fixed:,} of them corrected")
    return redriven.complete


async def _discard(settings: Settings, choice: Choice) -> None:
    from functions.local.redriving import Operator  # noqa: PLC0415

    async with Operator(settings) as operator:
        click.echo(f"{await operator.discard(choice):,} thrown away")


class _Progress:
    """A number that counts up on a terminal, and the lines about single events above it."""

    def __init__(self) -> None:
        self._count = 0
        self._shown = sys.stderr.isatty()

    def add(self, count: int) -> None:
        self._count += count
        if self._shown:
            click.echo(f"\r{self._count:,} events", nl=False, err=True)

    def say(self, line: str) -> None:
        self.end()
        click.echo(line, err=True)

    def end(self) -> None:
        if self._shown:
            click.echo("\r\033[K", nl=False, err=True)


def _choice(ids: tuple[str, ...], *, since: str | None, key_name: str | None, **chosen: Any) -> Choice:
    from functions.local.redriving import Choice  # noqa: PLC0415

    return Choice(ids, key=key_name, since_ms=None if since is None else _moment_ms(since), **chosen)


def _moment_ms(text: str) -> int:
    from functions.core import timestamps  # noqa: PLC0415

    number, unit = text[:-1], text[-1:]
    if number.isdecimal() and unit in _UNITS_S:
        return int((time.time() - int(number) * _UNITS_S[unit]) * 1000)
    try:
        return timestamps.parse_us(text) // 1000
    except ValueError:
        raise click.UsageError(
            f"--since {text}: give a time such as 2026-03-02T08:00:00Z, or 90s, 15m, 2h, 3d"
        ) from None


def _assignment(text: str) -> tuple[str, str]:
    pointer, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"{text}: write POINTER=VALUE, such as /user_id=ann")
    return pointer, value


def _json_of(text: str) -> Any:
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
