"""``python -m bench`` runs all measurements, ``python -m bench ingest``, ``job`` or ``report`` one of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import ingest, job, report


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=["ingest", "job", "report"], help="which one (default: all)")
    parser.add_argument("--events", type=int, default=10_000_000, help="job: events to fold (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="times each side runs, in turn (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="ingest: length of a load (default: %(default)s)")
    parser.add_argument(
        "--users",
        type=int,
        nargs="+",
        default=[10_000, 200_000, 1_000_000],
        help="report: sizes (default: %(default)s)",
    )
    parser.add_argument(
        "--part",
        action="append",
        choices=(*ingest.PARTS, *job.PARTS),
        help="ingest, job: one part, as often as wanted (default: all)",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        help="job: folder for what is made up, which a further call with as many events finds there",
    )
    arguments = parser.parse_args()
    if arguments.name in {"ingest", None}:
        ingest.run(arguments.rounds, arguments.seconds, tuple(arguments.part or ingest.PARTS))
    if arguments.name in {"job", None}:
        job.run(arguments.events, arguments.rounds, tuple(arguments.part or job.PARTS), arguments.keep)
    if arguments.name in {"report", None}:
        report.run(arguments.rounds, arguments.users)


main()
