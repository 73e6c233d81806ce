"""Senders as apps are: many at once, each repeating what was not taken until it is; and what they were told."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx2

from functions.adapters.redis_shard import ShardStore
from functions.core.packing import unpack_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    from functions.core.settings import Settings

BATCH_EVENTS = 20
_PATIENCE_S = 60.0
_SAFE = frozenset({"accepted", "duplicate"})
_ids = itertools.count()


class Senders:
    """Threads that send events, each with an id of its own, which is also its user's."""

    def __init__(self, urls: Sequence[str], threads: int = 4) -> None:
        """Prepare.

        Args:
            urls: Of ingest; whoever hears nothing from one goes to the next.
            threads: How many send at the same time.
        """
        self._urls = urls
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._send_all, args=(number,)) for number in range(threads)]
        self.faults: list[str] = []
        self.told: dict[str, set[str]] = {}
        """Event id to the verdicts that its sender has heard."""
        self.statuses: Counter[int] = Counter()
        """Status to replies; 0: none came."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(_PATIENCE_S)
        assert not any(thread.is_alive() for thread in self._threads), "a sender still waits"

    @property
    def safe(self) -> int:
        """Events that their senders need not send again."""
        return len(self.safe_names())

    def safe_names(self) -> set[str]:
        """Return the events that their senders need not send again."""
        return {name for name in list(self.told) if self.told[name] & _SAFE}

    def wait_for(self, more: int) -> None:
        """Wait until so many more events are taken."""
        wanted = self.safe + more
        self.wait_until(lambda: self.safe >= wanted)

    def wait_for_refusals(self, more: int) -> None:
        """Wait until so many more requests were answered 503."""
        wanted = self.statuses[503] + more
        self.wait_until(lambda: self.statuses[503] >= wanted)

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Wait for something that the senders see or bring about."""
        deadline = time.monotonic() + _PATIENCE_S
        while not happened():
            assert not self.faults, self.faults
            assert time.monotonic() < deadline, (self.statuses, self.safe)
            time.sleep(0.01)

    def _send_all(self, number: int) -> None:
        client = httpx2.Client(timeout=20, trust_env=False)
        try:
            for turn in itertools.count():
                if self._ending.is_set():
                    break
                names = [f"event-{next(_ids)}" for _ in range(BATCH_EVENTS if turn % 3 else 1)]
                self._send_until_taken(client, number, names)
                if turn % 5 == 0:  # an app that lost the reply, or its mind
                    self._send_until_taken(client, number, names)
        except Exception as e:  # noqa: BLE001  # shown where the test looks
            self.faults.append(repr(e))
        finally:
            client.close()

    def _send_until_taken(self, client: httpx2.Client, number: int, names: list[str]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        for url in itertools.islice(itertools.cycle(self._urls), number, None):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{names[0]} was never taken")
            try:
                response = client.post(url, **(_single(names[0]) if len(names) == 1 else _batch(names)))
            except httpx2.HTTPError:
                self.statuses[0] += 1
                continue
            self.statuses[response.status_code] += 1
            body = response.json()
            if "events" not in body:
                assert (503, True) == (response.status_code, int(response.headers["retry-after"]) > 0), body
                time.sleep(0.05)
                continue
            verdicts = [event["verdict"] for event in body["events"]]
            for name, verdict in zip(names, verdicts, strict=True):
                self.told.setdefault(name, set()).add(verdict)
            if {*verdicts} <= _SAFE:
                assert response.status_code == 202, body
                return
            assert (503, True) == (response.status_code, int(response.headers["retry-after"]) > 0), body
            time.sleep(0.05)

    def check(self, settings: Settings) -> None:
        """Check the log against what the senders were told, event by event."""
        assert not self.faults, self.faults
        held = Counter(users_in_log(settings))
        safe = self.safe_names()
        assert set() == safe - held.keys(), "accepted, and missing"
        assert {} == {name: count for name, count in held.items() if count > 1}, "counted twice"
        assert held.keys() == safe == self.told.keys()
        assert {"accepted", "duplicate", "retry"} >= set().union(*self.told.values())


def users_in_log(settings: Settings) -> Iterator[str]:
    """Yield the user of every event in the log."""
    store = ShardStore(settings)
    for shard in range(store.shards()):
        ledger = store.ledger(shard)
        assert ledger.accepted == ledger.folded + ledger.pending
        users = [event.user_id for _, entry in store.log(shard, "0-0", "+") for event in unpack_events(entry)]
        assert ledger.pending == len(users)
        yield from (user for user in users if user is not None)
    store.close()


def _event(name: str) -> dict[str, Any]:
    fields = {"event": "flyer_open", "flyer_id": "f", "merchant_id": "m"}
    return {"timestamp": "2026-03-02T08:00:00Z", "user_id": name, **fields}


def _batch(names: list[str]) -> dict[str, Any]:
    events = [
        {"specversion": "1.0", "id": name, "source": "/senders", "type": "t", "data": _event(name)} for name in names
    ]
    return {"content": json.dumps(events), "headers": {"content-type": "application/cloudevents-batch+json"}}


def _single(name: str) -> dict[str, Any]:
    attributes = {"ce-specversion": "1.0", "ce-id": name, "ce-source": "/senders", "ce-type": "t"}
    return {"content": json.dumps(_event(name)), "headers": {"content-type": "application/json", **attributes}}
