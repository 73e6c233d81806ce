"""``spark/main.py erase``: a user out of every store, and a receipt."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import TYPE_CHECKING

from functions.adapters.redis_erasure import ErasureStore
from functions.core.errors import MisconfiguredError
from spark.commands import run_command
from spark.erasing import erase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.settings import Settings
    from spark.erasing import Receipt


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="flyertime erase",
        description="Take a user out of pending events, state, report, quarantine and archive, while everything runs; "
        "print a receipt as JSON. Events of the user that come in later count again. Broken off, it is completed by "
        "the same command.",
        epilog="exit status: 0 erased, also where there was nothing; 1 failed, 2 wrong arguments or settings, "
        "75 store or archive did not answer",
    )
    parser.add_argument("user", metavar="USER", help="the user's id, exactly as in the events")
    return run_command(parser, arguments, _erase)


def _erase(given: argparse.Namespace, settings: Settings) -> int:
    try:
        given.user.encode()
    except UnicodeEncodeError:
        raise MisconfiguredError("bad_user", "USER is not UTF-8: no event has such an id") from None
    store = ErasureStore(settings)
    try:
        erase(settings, store, given.user, _print)
    finally:
        store.close()
    return 0


def _print(receipt: Receipt) -> None:
    sys.stdout.write(json.dumps(dataclasses.asdict(receipt), indent=2) + "\n")
    sys.stdout.flush()  # the store forgets it then
