"""``flyertime keys``: making access keys."""

from __future__ import annotations

import click


@click.group()
def keys() -> None:
    """Make keys for those who may write."""


@keys.command()
@click.argument("name")
@click.option("--source", help="Only events of this CloudEvents source, or of one below it, may come with the key.")
def new(name: str, source: str | None) -> None:
    """Make a write key for NAME (an app, a team) and print it; only its hash is kept anywhere."""
    import secrets  # noqa: PLC0415

    from functions.core.access import WRITE_PREFIX, AccessKey, parse_keys, sha256_of  # noqa: PLC0415

    token = WRITE_PREFIX + secrets.token_urlsafe(32)
    key = AccessKey(name, sha256_of(token), source)
    try:
        parse_keys(key.line)
    except ValueError:
        raise click.UsageError(
            "NAME must be letters, digits, dots and dashes, and SOURCE must not hold white space"
        ) from None
    click.echo(f"The sender's key, shown only now:\n  {token}\nThe line to add to FLYERTIME_WRITE_KEYS:\n  {key.line}")
