"""How far a job of Spark is, by the tasks of the stages that it is at: on a terminal all the time, else in the log."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark import SparkContext

logger = logging.getLogger("flyertime.job")

TERMINAL_S: Final = 1.0
LOG_S: Final = 10.0


@contextmanager
def shown(context: SparkContext, what: str, every_s: float | None = None) -> Iterator[None]:
    """Show how far Spark is while something goes on."""
    on_terminal = sys.stderr.isatty()
    if every_s is None:
        every_s = TERMINAL_S if on_terminal else LOG_S
    ended = threading.Event()

    def show() -> None:
        before = ""
        while not ended.wait(every_s):
            now = _done(context)
            if now and on_terminal:
                sys.stderr.write(f"\r{what}: {now}\033[K")
                sys.stderr.flush()
            elif now and now != before:
                logger.info("%s: %s", what, now)
            before = now

    showing = threading.Thread(target=show, daemon=True)
    showing.start()
    try:
        yield
    finally:
        ended.set()
        showing.join()
        if on_terminal:
            sys.stderr.write("\r\033[K")


def _done(context: SparkContext) -> str:
    tracker = context.statusTracker()
    stages = [tracker.getStageInfo(stage) for stage in sorted(tracker.getActiveStageIds())]
    return "; ".join(
        f"stage {stage.stageId + 1}: {stage.numCompletedTasks:,} of {stage.numTasks:,} tasks"
        for stage in stages
        if stage is not None
    )
