"""One run: everything pending is folded, and where it may linger, what comes in next too.

While a run lingers the report follows within seconds, and no JVM starts for every batch. It ends when the log has
stayed empty for a while, when it has lived long enough, when something went wrong, or when it is asked to.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from functions.adapters.redis_shard import ShardStore
from functions.adapters.update_notices import UpdateNotices
from spark.planning import ShardBound, groups_of, tasks_for
from spark.session import start_context
from spark.tasks import fold_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark import SparkContext

    from functions.core.settings import Settings
    from spark.folding import Folded

logger = logging.getLogger("flyertime.job")

POLL_S: Final = 1.0
"""A run that lingers looks this often; each look that finds something costs Spark a third of a second."""
GRACE_S: Final = 10.0
"""For work under way when the run is asked to stop; the supervisor on one machine kills after 15."""


class StoppedError(Exception):
    """Somebody asked us to stop: what is committed stays, the rest stays in the log."""


class Stopping:
    """What to do when somebody asks the run to end."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._patient = False

    def listen(self) -> None:
        """Take SIGTERM as such a wish, and SIGALRM as the end of patience."""
        signal.signal(signal.SIGTERM, self._request)
        signal.signal(signal.SIGALRM, self._give_up)

    @property
    def requested(self) -> bool:
        """Whether somebody has asked; py4j turns what is raised during a call into an error of its own."""
        return self._requested.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until somebody asks; tell which."""
        return self._requested.wait(seconds)

    def be_patient(self) -> None:
        """From now on let what is under way come to its end, for a while."""
        self._patient = True

    def _request(self, *_: object) -> None:
        self._requested.set()
        if not self._patient:
            raise StoppedError
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)

    def _give_up(self, *_: object) -> None:
        raise StoppedError


@dataclass(slots=True)
class Summary:
    """What a run did."""

    events: int = 0
    shards: set[int] = field(default_factory=set)
    rounds: int = 0
    superseded: int = 0
    users: int = 0
    late_events: int = 0
    errors: list[str] = field(default_factory=list)
    retryable: bool = True
    """Whether all errors so far were the store's not answering."""

    def add(self, folded: Folded) -> None:
        """Add one shard."""
        self.shards.add(folded.shard)
        self.events += folded.events
        self.rounds += folded.rounds
        self.superseded += folded.superseded
        self.users += folded.users
        self.late_events += folded.late_events
        if folded.error:
            self.errors.append(folded.error)
            self.retryable = self.retryable and folded.retryable


def fold_log(settings: Settings, run: str, summary: Summary, stopping: Stopping) -> None:
    """Fold all that is pending when Spark is up, and linger; a shard that fails is named and holds up no others."""
    bounds = bounds_of(settings)
    pending_events = sum(bound.pending_events for bound in bounds)
    logger.info("run %s: %d events pending in %d shards", run, pending_events, len(bounds))
    if not bounds:
        return
    started_s = time.monotonic()
    with UpdateNotices(settings, run) as notices, start_context(settings, run) as context:
        logger.info("Spark %s is up after %.1f s", context.version, time.monotonic() - started_s)
        stopping.be_patient()

        def fold(bounds: Sequence[ShardBound]) -> None:
            events = summary.events
            fold_bounds(context, bounds, summary)
            if summary.events > events:
                notices.committed()

        linger(settings, fold, summary, stopping)


def linger(
    settings: Settings, fold: Callable[[Sequence[ShardBound]], None], summary: Summary, stopping: Stopping
) -> None:
    """Fold what is pending, again and again, until the log has stayed empty for ``linger_s``."""
    began_s = empty_since_s = time.monotonic()
    while True:
        if bounds := bounds_of(settings):
            fold(bounds)
            empty_since_s = time.monotonic()
        if summary.errors or time.monotonic() - empty_since_s >= settings.linger_s:
            return
        if time.monotonic() - began_s >= settings.linger_max_s or stopping.wait(POLL_S):
            return


def fold_bounds(context: SparkContext, bounds: Sequence[ShardBound], summary: Summary) -> None:
    """Fold shards up to their bounds, as tasks of Spark."""
    groups = groups_of(bounds, tasks_for(sum(bound.pending_events for bound in bounds), context.defaultParallelism))
    for folded in context.parallelize(groups, len(groups)).mapPartitions(fold_groups).collect():
        summary.add(folded)


def bounds_of(settings: Settings) -> list[ShardBound]:
    """Return the shards that have a backlog, each with its newest entry."""
    store = ShardStore(settings)
    try:
        ledgers = [store.ledger(shard) for shard in range(store.shards())]
    finally:
        store.close()
    return [
        ShardBound(ledger.shard, ledger.newest_id, ledger.pending) for ledger in ledgers if ledger.newest_id is not None
    ]
