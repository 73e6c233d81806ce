"""The command line: parse, call, print. What each command does stands in functions/local."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from functions import cli_history, cli_quarantine, cli_report
from functions.cli_keys import keys
from functions.cli_progress import Progress, events
from functions.core.errors import FlyertimeError, UnavailableError

if TYPE_CHECKING:
    from functions.core.settings import Settings

FOLDER: Final = Path(".flyertime")
EXIT_INCOMPLETE: Final = 1
EXIT_TRY_AGAIN: Final = 75


class _Group(click.Group):
    """Turns our errors into one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FlyertimeError as e:
            click.secho(f"flyertime: {e.message}", fg="red", err=True)
            ctx.exit(EXIT_TRY_AGAIN if isinstance(e, UnavailableError) else 2)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Settings are environment variables FLYERTIME_*; README.md lists them.",
)
@click.version_option(package_name="flyertime")
def main() -> None:
    """Average time on flyer per user, from app events.

    \b
    flyertime demo                       see it work on made-up events
    flyertime run                        the whole pipeline on this machine
    flyertime generate | flyertime replay -      send events to it
    flyertime flush --wait; flyertime report     fold them, and read the report
    """  # noqa: D301  # \b is click's mark for a block that keeps its lines


main.add_command(keys)


@main.command()
@click.option(
    "--events", default=20_000, show_default=True, type=click.IntRange(min=1), help="Different events to send."
)
@click.option("--seed", default=2026, show_default=True, help="Of the made-up events.")
def demo(events: int, seed: int) -> None:
    """Run everything once on made-up events, and check the report against a plain computation.

    Uses free ports and a temporary folder; nothing stays behind. Exit status 0 only where the report is right.
    """
    from functions.local.demo import run_demo  # noqa: PLC0415  # each command imports what it needs

    if not run_demo(events, seed):
        sys.exit(EXIT_INCOMPLETE)


@main.command()
@click.option("--folder", default=FOLDER, show_default=True, type=click.Path(path_type=Path), help="For data and logs.")
@click.option("--ingest-port", default=8081, show_default=True)
@click.option("--trigger-port", default=8082, show_default=True)
@click.option("--report-port", default=8083, show_default=True)
@click.option("--valkey-port", default=6389, show_default=True)
def run(folder: Path, ingest_port: int, trigger_port: int, report_port: int, valkey_port: int) -> None:
    """Run the pipeline on this machine until Ctrl-C: Valkey, ingest, trigger, report, and Spark when there is work.

    Data stays in the folder, so the next run goes on where this one stopped.
    """
    from functions.local.stack import Stack  # noqa: PLC0415

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    ports = {"valkey": valkey_port, "ingest": ingest_port, "trigger": trigger_port, "report": report_port}
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with Stack(folder, ports=ports) as stack:
        click.echo(f"ingest   {stack.urls['ingest']}    POST / (CloudEvents), POST /api/process (JSON array)")
        click.echo(f"trigger  {stack.urls['trigger']}    GET / says why a run is started, or not")
        click.echo(f"report   {stack.urls['report']}    GET / , GET /users/{{id}}")
        click.echo(f"valkey   {stack.valkey.url}    data, logs and runs in {folder}/")
        click.echo("Ctrl-C stops everything; nothing accepted is lost.")
        while not stopped.wait(0.2):
            pass
        click.echo("\nStopping")
    click.echo("Stopped; the data stays.")


@main.command()
@click.option(
    "--events", default=20_000, show_default=True, type=click.IntRange(min=1), help="Different events to make."
)
@click.option("--users", default=500, show_default=True, type=click.IntRange(min=1))
@click.option("--merchants", default=12, show_default=True, type=click.IntRange(min=1))
@click.option("--start", default="2026-03-02T08:00:00Z", show_default=True, help="Time of the first session, RFC 3339.")
@click.option("--seed", default=2026, show_default=True, help="The same seed makes the same events.")
@click.option("--output", default="-", type=click.File("wb"), help="File to write; - is standard output.")
def generate(events: int, users: int, merchants: int, start: str, seed: int, output: BinaryIO) -> None:
    """Make up events like real ones, one CloudEvent a line, with some repeats, disorder and late arrivals."""
    from functions.local.generating import Crowd  # noqa: PLC0415
    from functions.local.generating import generate as generate_events  # noqa: PLC0415

    crowd = Crowd(users=users, merchants=merchants, start=start)
    output.writelines(json.dumps(event).encode() + b"\n" for event in generate_events(seed, events, crowd))


@main.command()
@click.argument("file", type=click.File("rb"))
@click.option("--to", "url", envvar="FLYERTIME_INGEST_URL", help="URL of ingest.  [default: the running stack's]")
@click.option("--mode", default="batch", show_default=True, type=click.Choice(["batch", "structured", "binary"]))
@click.option("--batch", default=200, show_default=True, type=click.IntRange(1, 10_000), help="Events in one request.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Events a second.  [default: no limit]")
@click.option("--senders", default=4, show_default=True, type=click.IntRange(1, 64), help="Requests at the same time.")
@click.option("--tries", default=10, show_default=True, type=click.IntRange(1), help="Times a request is sent at most.")
@click.option(
    "--format", "record_format", type=click.Choice(["json", "ndjson", "csv"]), help="[default: looks at FILE]"
)
@click.option("--source", help="CloudEvents source of raw records.  [default: the file's name]")
@click.option("--key", envvar="FLYERTIME_KEY", help="Write key, where ingest asks for one; better in FLYERTIME_KEY.")
def replay(
    file: BinaryIO,
    url: str | None,
    mode: str,
    batch: int,
    rate: float | None,
    senders: int,
    tries: int,
    record_format: str | None,
    source: str | None,
    key: str | None,
) -> None:
    """Send recorded events to ingest: a JSON array, NDJSON or CSV; - is standard input.

    Each event has an id that follows from the file, so sending a file twice counts it once. Exit status 0 only where
    every event is in the log.
    """
    from functions.local.reading import read_events  # noqa: PLC0415
    from functions.local.replaying import Pace  # noqa: PLC0415
    from functions.local.replaying import replay as replay_events  # noqa: PLC0415

    url = url or _stack_url("ingest")
    name = source or f"/flyertime/replay/{Path(getattr(file, 'name', '-')).name.strip('<>')}"
    pace = Pace(mode, batch, rate, senders, tries)
    with Progress(events) as progress:
        summary = asyncio.run(
            replay_events(read_events(file, name, record_format), url, pace, key=key, on_progress=progress.add)
        )
    for verdict, count in sorted(summary.counts.items()):
        click.echo(f"{verdict:10} {count:>10,}")
    click.echo(f"{summary.requests:,} requests, {summary.retries:,} of them again, {summary.seconds:.1f} s")
    for reason in summary.reasons:
        click.echo(f"  {reason}", err=True)
    if not summary.complete:
        sys.exit(EXIT_INCOMPLETE)


@main.command()
@click.option("--shards", is_flag=True, help="Show every shard.")
@click.option(
    "--trigger", "url", envvar="FLYERTIME_TRIGGER_URL", help="URL of trigger.  [default: the running stack's]"
)
def status(shards: bool, url: str | None) -> None:
    """Show the ledger, the last runs, what is in the quarantine, and what trigger would do now."""
    from functions.local.asking import get_json, state_of  # noqa: PLC0415
    from functions.local.quarantined import books_of  # noqa: PLC0415
    from functions.local.tables import ledger_table, runs_table  # noqa: PLC0415

    ledgers, runs = asyncio.run(state_of(_settings()))
    quarantined = asyncio.run(books_of(_settings())).events
    click.echo(ledger_table(ledgers, each_shard=shards) if ledgers else "   nothing has been received so far")
    click.echo()
    click.echo(runs_table(runs[:5]) if runs else "   no run so far")
    if quarantined:
        click.echo(f"\n   quarantine: {quarantined:,} rejected events; `flyertime quarantine list` shows them")
    if url := url or _stack_url("trigger", needed=False):
        decision = get_json(url)
        click.echo(f"\n   trigger: {decision['cause']}: {decision['explanation']}")


@main.command()
@click.option(
    "--trigger", "url", envvar="FLYERTIME_TRIGGER_URL", help="URL of trigger.  [default: the running stack's]"
)
@click.option("--wait", is_flag=True, help="Until everything pending now is in the report.")
@click.option("--timeout", "timeout_s", default=300.0, show_default=True, help="Seconds to wait at most.")
def flush(url: str | None, wait: bool, timeout_s: float) -> None:
    """Ask trigger to fold what is pending, without waiting for the threshold or the age."""
    from functions.local.asking import request_flush, wait_until_folded  # noqa: PLC0415

    request_flush(url or str(_stack_url("trigger")))
    if wait:
        pending = asyncio.run(wait_until_folded(_settings(), timeout_s))
        click.echo(f"folded; {pending:,} events came in since")
    else:
        click.echo("flush requested")


cli_history.add_to(main, FOLDER)
cli_report.add_to(main, lambda: _stack_url("report"))


def _stack() -> dict[str, str]:
    """Return the addresses of the stack that runs in this folder; nothing where none does."""
    try:
        found: dict[str, str] = json.loads((FOLDER / "stack.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def _stack_url(target: str, *, needed: bool = True) -> str:
    if url := _stack().get(target):
        return url
    if needed:
        raise click.UsageError(
            f"no stack runs in this folder: start one with `flyertime run`, or give the URL of {target} "
            f"(option or FLYERTIME_{target.upper()}_URL)"
        )
    return ""


def _settings() -> Settings:
    """Return the settings of the environment; the running stack's store where it names none."""
    from functions.core import environment  # noqa: PLC0415

    stack = {"FLYERTIME_REDIS_URL": _stack()["redis_url"]} if _stack() else {}
    return environment.parse({**stack, **os.environ})


cli_quarantine.add_to(main, _settings, lambda: _stack_url("ingest"))
