"""How far long work is, on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress:
    """A number that counts up on a terminal, and lines above it; no number where nobody looks. A context manager."""

    def __init__(self, told: Callable[[int], str], *, beside_output: bool = False) -> None:
        """Prepare it.

        Args:
            told: Returns the number in words.
            beside_output: The command prints its own output meanwhile: then there is a number only where that goes
                elsewhere than to the terminal.
        """
        self._told = told
        self._count = 0
        self._shown = sys.stderr.isatty() and not (beside_output and sys.stdout.isatty())

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wipe the number away."""
        self._wipe()

    def add(self, count: int) -> None:
        """Count some more."""
        self._count += count
        if self._shown:
            click.echo(f"\r{self._told(self._count)}", nl=False, err=True)

    def say(self, line: str) -> None:
        """Print a line."""
        self._wipe()
        click.echo(line, err=True)

    def _wipe(self) -> None:
        if self._shown:
            click.echo("\r\033[K", nl=False, err=True)


def events(count: int) -> str:
    """Return a number of events in words."""
    return f"{count:,} events"


def megabytes(count: int) -> str:
    """Return a number of bytes in words."""
    return f"{count / 1e6:,.1f} MB"
