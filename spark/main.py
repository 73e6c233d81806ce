"""The job: fold what is in the log, and say what was done.

``python -m spark.main --run NAME`` on one machine, or spark-submit's main file on a cluster; with a
command as the first argument it does that instead (see COMMANDS). Settings come from the environment, of the driver
and of the executors alike, so that no password is in an argument or in Spark's own messages.

Exit status: 0 folded, also when there was nothing to do; 1 failed; 2 wrong arguments or settings; 75 the store did not
answer, try again.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

if __name__ == "__main__":  # as a file, Python looks for modules beside it, not where the package is
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from functions.adapters.redis_shard import ShardStore
from functions.core import environment, trace_context
from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError
from spark.running import StoppedError, Stopping, Summary, fold_log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.settings import Settings

logger = logging.getLogger("flyertime.job")

COMMANDS: Final = {
    "backfill": "spark.backfill_command",
    "archive": "spark.archive_command",
    "erase": "spark.erase_command",
    "verify": "spark.verify_command",
    "rebuild": "spark.rebuild_command",
    "reshard": "spark.reshard_command",
}
"""What else this file does, by its first argument; a fold loads none of it."""

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_TRY_AGAIN: Final = 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in COMMANDS:
        status: int = importlib.import_module(COMMANDS[arguments[0]]).main(arguments[1:])
        return status
    parser = argparse.ArgumentParser(
        prog="spark.main",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Fold the pending log into the state. Settings: FLYERTIME_* variables, see README.md.",
        epilog="exit status: 0 folded, 1 failed, 2 wrong arguments or settings, 75 the store did not answer\n"
        "`backfill --help` is about history",
    )
    parser.add_argument("--run", default="by-hand", help="name of this run, for the record (default: %(default)s)")
    run = parser.parse_args(arguments).run
    try:
        settings = environment.parse(os.environ)
    except MisconfiguredError as e:
        sys.stderr.write(f"{e.message}\n")
        return EXIT_USAGE
    caller = trace_context.parse(os.environ.get("TRACEPARENT"))  # trigger's span, or what called it
    trace = "" if caller is None else f"trace_id={caller.trace_id} "
    log_format = f"%(asctime)s {trace}%(levelname)s %(message)s"
    logging.basicConfig(level=settings.log_level, format=log_format, stream=sys.stderr)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    stopping = Stopping()
    stopping.listen()
    return run_job(settings, run, stopping)


_STOPPED: Final = "stopped from outside"


def run_job(settings: Settings, run: str, stopping: Stopping) -> int:
    """Fold, record what was done, and return the exit status."""
    started_at = datetime.now(UTC)
    summary = Summary()
    status = 0
    try:
        fold_log(settings, run, summary, stopping)
        if stopping.requested and summary.errors:
            raise StoppedError  # noqa: TRY301  # as where it was raised within
        status = 0 if not summary.errors else EXIT_TRY_AGAIN if summary.retryable else EXIT_FAILED
    except StoppedError:
        summary.errors.append(_STOPPED)
        status = EXIT_FAILED
    except UnavailableError as e:
        summary.errors.append(e.message)
        status = EXIT_TRY_AGAIN
    except FlyertimeError as e:
        summary.errors.append(e.message)
        status = EXIT_USAGE if isinstance(e, MisconfiguredError) else EXIT_FAILED
    except Exception as e:
        logger.debug("the run failed", exc_info=True)
        summary.errors.append(_STOPPED if stopping.requested else cause_of(e))
        status = EXIT_FAILED
    for error in summary.errors:
        logger.error("%s", error)
    logger.info(
        "run %s %s: %d events of %d shards in %d rounds, %.1f s",
        run,
        "failed" if status else "succeeded",
        summary.events,
        len(summary.shards),
        summary.rounds,
        (datetime.now(UTC) - started_at).total_seconds(),
    )
    _record(settings, run, started_at, summary, status)
    return status


def cause_of(error: Exception) -> str:
    """Return the line that says what happened; Spark wraps the error of a task in pages of Java."""
    lines = [re.sub(r"^(: |Caused by: )", "", line.strip()) for line in str(error).splitlines()]
    causes = [line for line in lines if re.match(r"[\w.$]*(Error|Exception): ", line)]
    return (causes[-1] if causes else f"{type(error).__name__}: {lines[0] if lines else ''}")[:500]


def _record(settings: Settings, run: str, started_at: datetime, summary: Summary, status: int) -> None:
    store = ShardStore(settings)
    try:
        store.record_run(
            {
                "run": run,
                "started_at": started_at.isoformat(timespec="milliseconds"),
                "ended_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "state": "failed" if status else "succeeded",
                "events": str(summary.events),
                "shards": str(len(summary.shards)),
                "rounds": str(summary.rounds),
                "superseded": str(summary.superseded),
                "late_events": str(summary.late_events),
                "error": "; ".join(summary.errors),
            }
        )
    except FlyertimeError as e:
        logger.warning("the run is not on record: %s", e.message)
    finally:
        store.close()


if __name__ == "__main__":
    sys.exit(main())
