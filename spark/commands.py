"""What the job's commands have in common: settings from the environment, a log, errors as a line and an exit status."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from functions.core import environment
from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from functions.core.settings import Settings

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_TRY_AGAIN: Final = 75


def run_command(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str],
    work: Callable[[argparse.Namespace, Settings], int],
) -> int:
    """Parse, do the work, and return the exit status: its own, 1 failed, 2 wrong arguments or settings, 75 later.

    SIGTERM is taken as Ctrl-C is: what was begun and can be undone is, and a second one ends that too.
    """
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    name = parser.prog.rpartition(" ")[2]
    try:
        settings = environment.parse(os.environ)
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        logging.getLogger("py4j").setLevel(logging.WARNING)
        return work(given, settings)
    except FlyertimeError as e:
        sys.stderr.write(f"{name}: {e.message}\n")
        if isinstance(e, MisconfiguredError):
            return EXIT_USAGE
        return EXIT_TRY_AGAIN if isinstance(e, UnavailableError) else EXIT_FAILED
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: stopped from outside; start it again to complete it\n")
        return EXIT_FAILED


def failed_in_spark(name: str, error: Exception, advice: str) -> int:
    """Say why Spark gave up, and return the exit status: a task's error comes as text in one of Spark's own."""
    from spark.main import cause_of  # noqa: PLC0415  # with PySpark, which most commands do without

    cause = cause_of(error)
    sys.stderr.write(f"{name}: {cause}\n{name}: {advice}\n")
    return EXIT_TRY_AGAIN if cause.partition(":")[0].endswith(UnavailableError.__name__) else EXIT_FAILED


def shown(items: Iterable[int], unit: str) -> Iterator[int]:
    """Yield numbers, and say on a terminal how far we are."""
    for number in items:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{unit} {number}\033[K")
            sys.stderr.flush()
        yield number
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
