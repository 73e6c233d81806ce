"""``spark/main.py verify``: a table of what every shard holds, and a line for everything that does not fit."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from typing import TYPE_CHECKING

from functions.adapters.redis_checks import CheckedStore
from functions.core.errors import MisconfiguredError
from functions.core.tables import table
from spark.commands import EXIT_FAILED, run_command
from spark.keeping import archive_of
from spark.verifying import verify_shard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.settings import Settings
    from spark.findings import Findings

logger = logging.getLogger("flyertime.verify")

COLUMNS = ("accepted", "folded", "pending", "erased", "users", "spans", "archived", "files")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="flyertime verify",
        description="Check ledger, log, state, report and archive against each other, while everything runs: the books "
        "agree with the log, each user's averages are those of the spans, the archive's files hold what was folded "
        "and give the same spans.",
        epilog="exit status: 0 all fits, 1 something does not, 2 wrong arguments or settings, "
        "75 store or archive did not answer",
    )
    parser.add_argument("--shard", type=int, action="append", help="only this one (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="do not recompute the spans from the archive's events")
    return run_command(parser, arguments, _verify)


def _verify(given: argparse.Namespace, settings: Settings) -> int:
    store = CheckedStore(settings)
    try:
        shards = store.shards()
        if not shards:
            raise MisconfiguredError("empty_store", "the store holds no pipeline of this namespace")
        store.check_settled()
        wanted = given.shard if given.shard is not None else range(shards)
        if not all(0 <= shard < shards for shard in wanted):
            raise MisconfiguredError("no_such_shard", f"the store has the shards 0 to {shards - 1}")
        archive = archive_of(settings, store)
        found = []
        for shard in wanted:
            progress = _Progress(shard, shards)
            found.append(verify_shard(store, archive, shard, recompute=not given.quick, on_progress=progress.add))
            progress.end(found[-1])
    finally:
        store.close()
    sys.stdout.write(report_of(found))
    return EXIT_FAILED if any(findings.deviations for findings in found) else 0


def report_of(found: Sequence[Findings]) -> str:
    """Return a table of the shards, and a line for each thing that does not fit."""
    rows = [(str(findings.shard), *(getattr(findings, column) for column in COLUMNS)) for findings in found]
    total = ("all", *(sum(getattr(findings, column) for findings in found) for column in COLUMNS))
    lines = [table(["shard", *COLUMNS], [*rows, total])]
    for findings in found:
        lines += [f"   shard {findings.shard}: {note}" for note in findings.notes]
        lines += [f"   shard {findings.shard}: DEVIATION: {deviation}" for deviation in findings.deviations]
        if findings.further:
            lines.append(f"   shard {findings.shard}: and {findings.further:,} more like these")
    exact, within, late = (
        sum(getattr(findings, name) for findings in found)
        for name in ("openings_exact", "openings_within", "late_events")
    )
    if within:
        lines.append(
            f"   time from open to close: equal in {exact:,} spans, "
            f"in {within:,} within what their {late:,} late events explain"
        )
    count = sum(len(findings.deviations) + findings.further for findings in found)
    recomputed = sum(findings.recomputed for findings in found)
    lines.append(
        f"   {count:,} deviations"
        if count
        else f"   all fits; of {recomputed:,} of {len(found):,} shards the spans were recomputed from the archive"
    )
    return "\n".join(lines) + "\n"


class _Progress:
    """What has been compared of a shard: all the time on a terminal, else once, in the log."""

    def __init__(self, shard: int, shards: int) -> None:
        self._shard = f"shard {shard} of {shards}"
        self._done: dict[str, int] = {}
        self._since_s = time.monotonic()

    def add(self, what: str, number: int) -> None:
        self._done[what] = self._done.get(what, 0) + number
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{self._shown()}\033[K")
            sys.stderr.flush()

    def end(self, findings: Findings) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
            return
        deviations = len(findings.deviations) + findings.further
        logger.info("%s in %.1f s, %d deviations", self._shown(), time.monotonic() - self._since_s, deviations)

    def _shown(self) -> str:
        return f"{self._shard}: " + ", ".join(f"{number:,} {what}" for what, number in self._done.items())
