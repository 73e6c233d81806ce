"""The commands for history: each is the job's own command, run here with this folder's settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS: Final = {
    "backfill": "Count history from files: Parquet, JSON or CSV.",
    "rebuild": "Make state and report anew from the archive, and switch to them.",
    "reshard": "Lay the store out with another number of shards, offline.",
    "verify": "Check ledger, state, report and archive against each other.",
    "erase": "Erase a user from every store, and print a receipt.",
    "archive": "Merge the archive's small files, and delete what no commit counts.",
}
"""Command of spark/main.py to what it does, in a line."""


def add_to(group: click.Group, folder: Path) -> None:
    """Add the commands; without an address in the environment they go to the store of the stack in ``folder``."""
    for name, doc in COMMANDS.items():
        group.add_command(_command(name, doc, folder))


def _command(name: str, doc: str, folder: Path) -> click.Command:
    @click.command(
        name=name,
        help=doc + f"\n\n`flyertime {name} --help` lists the options.",
        short_help=doc,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(arguments: tuple[str, ...]) -> None:
        try:
            stack = json.loads((folder / "stack.json").read_text())
        except FileNotFoundError:
            stack = {}
        environment = {"FLYERTIME_REDIS_URL": stack["redis_url"]} if stack else {}
        command = [sys.executable, "-m", "spark.main", name, *arguments]
        process = subprocess.Popen(command, env={**environment, **os.environ})
        while True:
            try:
                sys.exit(process.wait())
            except KeyboardInterrupt:  # the terminal sends it to the job too, which ends in order
                continue

    return run
