"""``spark/main.py backfill``: its arguments, its summary, its exit status."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pyspark.sql import SparkSession

from functions.core.errors import FlyertimeError
from functions.core.events import FIELDS
from spark.backfill import Source, backfill
from spark.commands import failed_in_spark, run_command
from spark.history_input import FORMATS
from spark.history_rows import UNITS_NS
from spark.session import start_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.settings import Settings
    from spark.backfill import Backfilled


def main(arguments: Sequence[str]) -> int:
    """Run a backfill and return its exit status: 0 counted, 1 failed, 2 wrong arguments or input, 75 later."""
    return run_command(_parser(), arguments, _backfill)


def _backfill(given: argparse.Namespace, settings: Settings) -> int:
    source = Source(given.input, given.format, dict(given.column), dict(given.option), given.unit)
    try:
        with start_context(settings, "flyertime-backfill", sql=True) as context:
            result = backfill(SparkSession(context), settings, source, given.id, given.rejects)
    except FlyertimeError:
        raise
    except Exception as e:  # noqa: BLE001  # of Spark, many kinds; what was committed is on record
        return failed_in_spark("backfill", e, "start it again to go on where it stopped")
    sys.stdout.write(summary_of(result))
    return 0


def summary_of(result: Backfilled) -> str:
    """Return what was done, in a few lines."""
    lines = [
        f"backfill {result.backfill} "
        + ("had been counted before; nothing was read" if result.was_done else "counted"),
        f"  rows read      {result.rows:>14,}",
        f"  rows taken     {result.rows - result.rows_rejected:>14,}",
        f"  rows rejected  {result.rows_rejected:>14,}",
        *(f"    {fault:<24} {count:>10,}" for fault, count in sorted(result.rejected.items())),
        f"  flyer events   {result.flyer_events:>14,}",
        f"  users          {result.users:>14,}",
        f"  seconds        {result.seconds:>14.1f}",
    ]
    if result.rejects:
        lines.append(f"  rejected rows are in {result.rejects}")
    elif result.rows_rejected:
        lines.append("  the rejected rows were not written: --rejects FOLDER would have")
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spark.main backfill",
        description="Count history once: events in files that never passed ingest. Settings: FLYERTIME_* variables.",
        epilog="Interrupted and started again with the same arguments, it goes on where it stopped. "
        "exit status: 0 counted, 1 failed, 2 wrong arguments, input or settings, 75 the store did not answer",
    )
    parser.add_argument("--input", required=True, help="file, folder or pattern; also s3a://, s3://, gs://")
    parser.add_argument("--format", required=True, choices=FORMATS, help="json is one object a line; csv has a header")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        type=_pair,
        metavar="FIELD=NAME",
        help=f"a field's column, where it is called otherwise; a dot goes into a struct. Fields: {', '.join(FIELDS)}",
    )
    parser.add_argument("--unit", choices=list(UNITS_NS), help="what timestamps that are whole numbers count")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=_pair,
        metavar="NAME=VALUE",
        help="of Spark's reader, such as sep=;",
    )
    parser.add_argument("--id", help="name under which it counts once (default: follows from the other arguments)")
    parser.add_argument("--rejects", help="folder (as above) for the rows that are no events, with faults")
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
