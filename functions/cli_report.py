"""``flyertime report``: the report as a table on the terminal, or in any of its formats into a file or a pipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import click

from functions.cli_progress import Progress, megabytes

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS: Final = ("table", "json", "ndjson", "csv", "arrow", "parquet")
BINARY: Final = ("arrow", "parquet")


def add_to(group: click.Group, url_of_stack: Callable[[], str]) -> None:
    """Add the command; without an address it asks the report of the stack that runs in this folder."""

    @group.command()
    @click.option("--from", "url", envvar="FLYERTIME_REPORT_URL", help="URL of report.  [default: the running stack's]")
    @click.option(
        "--key", envvar="FLYERTIME_READ_KEY", help="Read key, where one is needed; better in FLYERTIME_READ_KEY."
    )
    @click.option("--user", help="Only this user.")
    @click.option("--merchant", help="Users of this merchant's flyers, and their time on these alone.")
    @click.option("--merchants", is_flag=True, help="All merchants side by side, instead of users.")
    @click.option("--summary", is_flag=True, help="Users, mean, percentiles, histogram and freshness, as JSON.")
    @click.option("--prefix", help="Only users whose ids begin with this.")
    @click.option("--min-sessions", type=click.IntRange(min=0), help="Only users with as many sessions or more.")
    @click.option("--min-hours", type=click.FloatRange(min=0), help="Only users with this average or more.")
    @click.option("--max-hours", type=click.FloatRange(min=0), help="Only users with this average or less.")
    @click.option("--sort", help="user_id, hours, sessions or another column; with - before it the greatest first.")
    @click.option("--fields", help="Columns, comma-separated, or all.")
    @click.option("--limit", type=click.IntRange(min=1), help="Rows at most.  [default: all]")
    @click.option("--format", "wanted", type=click.Choice(FORMATS), default="table", show_default=True)
    @click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
    @click.option(
        "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write.  [default: standard output]"
    )
    def report(
        url: str | None,
        key: str | None,
        user: str | None,
        merchant: str | None,
        merchants: bool,
        summary: bool,
        wanted: str,
        as_json: bool,
        output: Path | None,
        **asked: str | float | None,
    ) -> None:
        """Print the average time on flyer per user, in hours.

        A file that --output names appears once all of it is there. Where the answer breaks off the exit status is not
        0, and the file is as it was.
        """
        _check_texts(user=user, merchant=merchant, **asked)
        if merchant == "":
            raise click.UsageError(
                "--merchant is the name of one: flyers without a merchant are in no merchant's report"
            )
        if (user is not None) + (merchant is not None and not summary) + merchants > 1:
            raise click.UsageError("--user, --merchant and --merchants are different questions: give one")
        if summary and (user is not None or merchants):
            raise click.UsageError("--summary is of all users or of one --merchant")
        if (summary or as_json) and wanted not in {"table", "json"}:
            raise click.UsageError(f"--{'summary' if summary else 'json'} is JSON, and --format {wanted} is not")
        own = {"fields"} if user is not None else set()
        if (user is not None or summary or merchants) and (
            given := [name for name in asked if asked[name] is not None and name not in own]
        ):
            raise click.UsageError(f"--{given[0].replace('_', '-')} is for tables of users")
        users = user is None and not merchants and not summary
        if user is not None:
            path = f"/users/{_segment(user)}"
        elif merchants:
            path = "/merchants"
        else:
            path = ("" if merchant is None else f"/merchants/{_segment(merchant)}") + ("/summary" if summary else "")
        query = {name: _text(value) for name, value in asked.items() if value is not None}
        limit = int(query.pop("limit")) if "limit" in query else None
        address = _base(url or url_of_stack()) + (path or "/")
        key = _token(key)
        wanted = "json" if as_json or summary else wanted
        if wanted == "table" or (wanted == "json" and limit is not None):
            _show_rows(address, query, key, limit, wanted, output, users=users)
        else:
            limited = {} if limit is None else {"limit": str(limit)}
            _copy(address, {**query, **limited, "format": wanted}, key, output)


def _check_texts(**given: str | float | None) -> None:
    for name, text in given.items():
        try:
            str(text).encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"--{name} is not UTF-8, as every id is") from None


def _base(url: str) -> str:
    """Return the report's address, to which paths are added; a key in it would be shown in messages, and not sent."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
    except ValueError:
        fits = False
    if not fits:
        raise click.UsageError(
            "--from is an address such as http://127.0.0.1:8083, without a query; the key goes into FLYERTIME_READ_KEY"
        )
    return url.rstrip("/")


def _token(key: str | None) -> str | None:
    token = None if key is None else key.strip()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise click.UsageError("the read key has characters that are in no key; it begins with ftr_")
    return token


def _segment(text: str) -> str:
    return quote(text, safe="").replace(".", "%2E")


def _text(value: str | float) -> str:
    # The report takes no exponents.
    return f"{value:.12f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _show_rows(
    url: str,
    query: dict[str, str],
    key: str | None,
    limit: int | None,
    wanted: str,
    output: Path | None,
    *,
    users: bool,
) -> None:
    from functions.local.fetching import Question, first_rows, one, replaced  # noqa: PLC0415
    from functions.local.tables import rows_table  # noqa: PLC0415

    question = Question(url, query, key)
    if users:
        rows, more = first_rows(question, limit)
    else:
        answer = one(question)
        rows, more = answer if isinstance(answer, list) else [answer], False
    text = rows_table(rows) if wanted == "table" else json.dumps(rows, ensure_ascii=False)
    if output is None:
        click.echo(text)
    else:
        with replaced(output) as file:
            file.write(f"{text}\n".encode())
    if more and wanted == "table":
        click.echo("   … and more", err=output is not None)


def _copy(url: str, query: dict[str, str], key: str | None, output: Path | None) -> None:
    from functions.local.fetching import Question, copy, save  # noqa: PLC0415

    if output is None and query["format"] in BINARY and sys.stdout.isatty():
        raise click.UsageError(f"{query['format']} is not for a terminal: give --output, or pipe it on")
    with Progress(megabytes, beside_output=True) as progress:
        if output is None:
            copy(Question(url, query, key), sys.stdout.buffer, progress.add)
        else:
            save(Question(url, query, key), output, progress.add)
    if output is None and query["format"] == "json" and sys.stdout.isatty():
        click.echo()
