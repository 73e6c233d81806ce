"""``flyertime keys``: making access keys."""

from __future__ import annotations

import click


@click.group()
def keys() -> None:
    """Make keys for those who may write events or read the report."""


@keys.command()
@click.argument("name")
@click.option("--source", help="Only events of this CloudEvents source, or of one below it, may come with the key.")
@click.option("--read", is_flag=True, help="A key that reads the report instead of one that writes events.")
@click.option("--merchant", help="With --read: this merchant's flyers alone, whatever is asked for.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True, max=999_999),
    help="Events a second at most, in each process of ingest; with --read requests a second.",
)
@click.option(
    "--burst",
    type=click.IntRange(min=1, max=999_999_999),
    help="With --rate: events that may come at once after a pause (default: what the rate gives in ten seconds).",
)
def new(name: str, source: str | None, read: bool, merchant: str | None, rate: float | None, burst: int | None) -> None:
    """Make a key for NAME (an app, a team, a merchant) and print it; only its hash is kept anywhere."""
    if read:
        if source is not None:
            raise click.UsageError("--source is for keys that write")
        if burst is not None:
            raise click.UsageError("--burst is for keys that write")
        _new_read_key(name, merchant, rate)
        return
    if merchant is not None:
        raise click.UsageError("--merchant goes with --read")
    if burst is not None and rate is None:
        raise click.UsageError("--burst goes with --rate")
    import secrets  # noqa: PLC0415

    from functions.core.access import WRITE_PREFIX, AccessKey, parse_keys, sha256_of  # noqa: PLC0415

    token = WRITE_PREFIX + secrets.token_urlsafe(32)
    key = AccessKey(name, sha256_of(token), source, rate, burst)
    try:
        parse_keys(key.line)
    except ValueError:
        raise click.UsageError(
            "NAME must be letters, digits, dots, dashes; SOURCE without white space; --rate of three decimals at most"
        ) from None
    click.echo(f"The sender's key, shown only now:\n  {token}\nThe line to add to FLYERTIME_WRITE_KEYS:\n  {key.line}")


def _new_read_key(name: str, merchant: str | None, rate: float | None) -> None:
    import secrets  # noqa: PLC0415

    from functions.core.access import sha256_of  # noqa: PLC0415
    from functions.core.read_access import READ_PREFIX, ReadKey, parse_read_keys  # noqa: PLC0415

    token = READ_PREFIX + secrets.token_urlsafe(32)
    key = ReadKey(name, sha256_of(token), merchant, rate)
    try:
        parse_read_keys(key.line)
    except ValueError:
        raise click.UsageError(
            "NAME must be letters, digits, dots and dashes; a merchant has a name; --rate has at most three decimals"
        ) from None
    click.echo(f"The reader's key, shown only now:\n  {token}\nThe line to add to FLYERTIME_READ_KEYS:\n  {key.line}")
    if merchant is not None:
        click.echo(
            "Its reader sees pseudonyms in place of user ids; report needs FLYERTIME_PSEUDONYM_SECRET for them, or "
            "FLYERTIME_PSEUDONYMS=off."
        )
