"""``flyertime quarantine``: rejected events, to look at, to correct, and to send again.

Here are the commands and their arguments; what they do and print is in functions/cli_quarantine_actions.py.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.core.settings import Settings
    from functions.local.quarantined import Choice

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
        from functions import cli_quarantine_actions as actions  # noqa: PLC0415  # each command imports what it needs

        asyncio.run(actions.list_(settings_of(), _choice((), **chosen), limit, as_json=as_json))

    @quarantine.command()
    @click.argument("entry_id", metavar="ID")
    def show(entry_id: str) -> None:
        """Show one rejected event: its faults, the event as it came, and as it was corrected."""
        from functions import cli_quarantine_actions as actions  # noqa: PLC0415

        asyncio.run(actions.show(settings_of(), entry_id))

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
        from functions import cli_quarantine_actions as actions  # noqa: PLC0415

        if bool(file or edit) == bool(texts or values or removed) or (file and edit):
            raise click.UsageError("say what to correct: --set, --set-json and --remove, or --file, or --edit")
        choice = _choice(ids, **chosen)
        if not choice.narrow or ((file or edit) and len(ids) != 1):
            raise click.UsageError(
                "name the events by their ids, or choose some: --code, --source, --key-name, --since"
            )
        changes = [
            *(("set", *_assignment(text)) for text in texts),
            *(("set", pointer, actions.json_of(value)) for pointer, value in map(_assignment, values)),
            *(("remove", pointer, None) for pointer in removed),
        ]
        if not asyncio.run(
            actions.fix(settings_of(), choice, changes, None if file is None else file.read(), edit=edit)
        ):
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
        from functions import cli_quarantine_actions as actions  # noqa: PLC0415

        target = url or ingest_url_of()
        if not asyncio.run(actions.redrive(settings_of(), _choice(ids, **chosen), target, key, dry_run=dry_run)):
            sys.exit(1)

    @quarantine.command()
    @click.argument("ids", metavar="[ID]...", nargs=-1)
    @_choosing
    @click.option("--all", "every", is_flag=True, help="All of them.")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    def discard(ids: tuple[str, ...], every: bool, yes: bool, **chosen: Any) -> None:
        """Throw rejected events away, for good."""
        from functions import cli_quarantine_actions as actions  # noqa: PLC0415

        choice = _choice(ids, **chosen)
        if choice.narrow == every:
            raise click.UsageError("name the events by their ids, or choose some (--code, --source, …), or say --all")
        if not yes:
            click.confirm("Throw these events away for good?", abort=True, err=True)
        asyncio.run(actions.discard(settings_of(), choice))


def _choice(ids: tuple[str, ...], *, since: str | None, key_name: str | None, **chosen: Any) -> Choice:
    from functions.local.quarantined import Choice  # noqa: PLC0415

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
