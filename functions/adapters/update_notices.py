"""A run tells that the report shows something else by now: a broker, or any address that takes CloudEvents.

By a thread of its own, which reads the books itself, so that a sink that is slow or away holds up no commit. A notice
that nobody takes is not sent again: the next one, or trigger's at the run's end, says as much and more.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final, Self

import msgspec

from functions.adapters.redis_shard import ShardStore
from functions.core import event_types
from functions.core.errors import FlyertimeError, UnavailableError
from functions.core.report_freshness import freshness_of

if TYPE_CHECKING:
    from functions.core.settings import Settings

logger = logging.getLogger("flyertime.job")

PERIOD_S: Final = 3.0
"""One notice in so long at most, whatever is committed meanwhile."""
_FAREWELL_S: Final = 5.0


class UpdateNotices:
    """Tells of commits: of the first at once, of further ones once in a while, of the last before the run ends."""

    def __init__(self, settings: Settings, run: str) -> None:
        self._settings = settings
        self._run = run
        self._commits = 0
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Tell what is not told yet, and wait a few seconds for it."""
        self._ending.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_FAREWELL_S)

    def committed(self) -> None:
        """Take note that something was committed; returns at once."""
        if self._settings.updates_sink is None:
            return
        self._commits += 1
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(self._settings.updates_sink,), daemon=True)
            self._thread.start()

    def _work(self, sink_url: str) -> None:
        told = 0
        while True:
            self._wake.wait()
            self._wake.clear()
            last = self._ending.is_set()
            if told != self._commits:
                told = self._commits
                try:
                    self._tell(sink_url, told)
                except FlyertimeError as e:
                    logger.warning("%s not delivered: %s", event_types.REPORT_UPDATED, e.message)
            if last:
                return
            self._ending.wait(PERIOD_S)

    def _tell(self, sink_url: str, number: int) -> None:
        import httpx2  # noqa: PLC0415  # 60 ms that a run without a sink need not wait for

        event = {
            "specversion": "1.0",
            "id": f"{self._run}-updated-{number}",
            "source": f"/flyertime/{self._settings.namespace}/runs",
            "type": event_types.REPORT_UPDATED,
            "datacontenttype": "application/json",
            "data": self._news(),
        }
        try:
            reply = httpx2.post(
                sink_url,
                content=msgspec.json.encode(event),
                headers={"content-type": "application/cloudevents+json"},
                timeout=self._settings.sink_timeout_s,
                trust_env=False,
            )
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as e:
            raise UnavailableError("sink_unavailable", f"the event sink cannot be reached: {type(e).__name__}") from e
        if reply.status_code >= 300:
            raise UnavailableError("sink_refused", f"the event sink answered {reply.status_code}")

    def _news(self) -> dict[str, object]:
        """Return what trigger says at a run's end too, of a run that goes on."""
        store = ShardStore(self._settings)
        try:
            ledgers = [store.ledger(shard) for shard in range(store.shards())]
        finally:
            store.close()
        shown = freshness_of(ledgers, None, self._settings.max_age_s).shown()
        return {
            "run": self._run,
            "state": "active",
            "complete_through": shown["complete_through"],
            "pending_events": shown["pending_events"],
        }
