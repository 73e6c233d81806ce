"""``python -m bench`` runs all measurements, ``python -m bench job`` one of them."""

from __future__ import annotations

import argparse

from bench import job


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("name", nargs="?", default="job", choices=["job"], help="which one (default: %(default)s)")
    parser.add_argument("--events", type=int, default=1_000_000, help="events to fold (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="times each side runs, in turn (default: %(default)s)")
    arguments = parser.parse_args()
    job.run(arguments.events, arguments.rounds)


main()
