"""A report with users, merchants, a run on record and pending events, and Chromium to look at it with."""

from __future__ import annotations

import random
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import httpx2
import pytest
from playwright.sync_api import sync_playwright

from functions.adapters.redis_shard import Change, Committed, ShardStore
from functions.core.settings import Settings
from functions.core.shards import shard_of
from functions.core.spans import Totals, pack_totals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from playwright.sync_api import Browser, Page

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import ServeFunction

SHARDS = 4
SCREENSHOTS = Path(__file__).parents[3] / "screenshots"
HOSTILE_USER = "<img src=x onerror=alert(1)>"
USERS = [*(f"user-{number:03}" for number in range(120)), HOSTILE_USER, "ünï 😀", "=1+1"]
MERCHANTS = ["aldi", "b & <b>co</b>", "metro", "zehrs"]
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def report_settings(valkey: EmbeddedValkey) -> Settings:
    """Settings of the report that the page's tests look at."""
    return Settings(redis_url=valkey.url, namespace="page", shards=SHARDS)


@pytest.fixture(scope="module")
def filled(report_settings: Settings) -> Settings:
    """Settings of a store that holds users, merchants and a run."""
    draw = random.Random(7)
    store = ShardStore(report_settings)
    merchants_of = {user: draw.sample(MERCHANTS, draw.randint(1, 3)) for user in USERS}
    totals = {user: _totals(draw) for user in USERS}
    for shard in range(SHARDS):
        users = [user for user in USERS if shard_of(user, SHARDS) == shard]
        averages = {user.encode(): pack_totals(totals[user]) for user in users}
        of_merchants = {
            name.encode(): {user.encode(): pack_totals(_totals(draw)) for user in users if name in merchants_of[user]}
            for name in MERCHANTS
        }
        ledger = store.ledger(shard)
        change = Change(shard, ledger.commits, "", 0, True, {}, averages, of_merchants)
        if not ledger.commits:  # a module before this one has filled it already, with the same
            assert isinstance(store.commit(change), Committed)
    store.record_run(
        {
            "run": "flyertime-1", "state": "SUCCEEDED", "events": "1234", "error": "",
            "started_at": "2026-03-02T08:00:00Z", "ended_at": "2026-03-02T08:00:30Z",
        }
    )  # fmt: skip
    store.close()
    return report_settings


def _totals(draw: random.Random) -> Totals:
    sessions = draw.randint(1, 30)
    first_us = 1_772_438_400_000_000 + draw.randint(0, 10**12)
    return Totals(
        seconds=int(draw.lognormvariate(6.5, 1.2) * sessions),
        sessions=sessions,
        first_us=first_us,
        last_us=first_us + draw.randint(0, 10**12),
        closed_seconds=0,
        closed_sessions=0,
        unclosed=draw.randint(0, 3),
    )


@pytest.fixture(scope="module")
def pending(filled: Settings, serve_function: ServeFunction) -> int:
    """Number of events that were accepted and not folded."""
    data = {
        "timestamp": "2026-03-02T09:00:00Z",
        "user_id": "u",
        "event": "flyer_open",
        "flyer_id": "f",
        "merchant_id": "m",
    }
    events = [
        {
            "specversion": "1.0",
            "id": str(number),
            "source": "/page",
            "type": "t",
            "data": {**data, "user_id": f"u{number}"},
        }
        for number in range(30)
    ]
    with serve_function("ingest", filled) as ingest:
        reply = httpx2.post(
            ingest.url, json=events, headers={"content-type": "application/cloudevents-batch+json"}, trust_env=False
        )
    assert 202 == reply.status_code
    return len(events)


@pytest.fixture(scope="module")
def url(filled: Settings, pending: int, serve_function: ServeFunction) -> Iterator[str]:
    """Address of the report."""
    assert pending
    with serve_function("report", filled) as process:
        yield process.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium, with a fresh profile.

    For one module at a time: while it is there, its loop runs in this thread, and no other can.
    """
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found is not None, "there is no Chromium: run scripts/ensure-chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """A look at the page: what it shows, and what went on meanwhile."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.problems: list[str] = []
        """Errors and warnings on the console, which violations of the policy are too, and errors of scripts."""
        self.requests: list[str] = []
        self.keys: set[str] = set()
        """Values of the header that carries the key."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self._on_request)

    def _on_request(self, request: Any) -> None:
        self.requests.append(request.url)
        if "authorization" in request.headers:
            self.keys.add(request.headers["authorization"])

    def _on_console(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(message.text)

    def settled(self) -> Visit:
        """Wait until the page shows what it has asked for."""
        self.until(
            "document.querySelector('#users').getAttribute('aria-busy') === 'false'"
            " && document.querySelector('#status').textContent === 'The newest report is shown.'"
        )
        return self

    def until(self, expression: str) -> None:
        """Wait until an expression is true; asked from outside, since the policy allows the page no such thing."""
        deadline = time.monotonic() + 20
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, f"not within 20 s: {expression}; {self.problems}"
            self.page.wait_for_timeout(20)

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements."""
        return self.page.locator(selector).all_inner_texts()

    def numbers(self, selector: str) -> list[float]:
        """Return the exact numbers of all `data` elements."""
        values: list[str] = self.page.locator(f"{selector} data").evaluate_all("all => all.map(one => one.value)")
        return [float(value) for value in values]

    def users(self) -> list[str]:
        """Return the users that the table shows."""
        return self.texts("#users-body th")


class Look(Protocol):
    """Open the page in a context of its own; its problems are errors unless they are taken out."""

    def __call__(
        self, url: str, *, fragment: str = "", settle: bool = True, **context: Any
    ) -> AbstractContextManager[Visit]:
        """Open it."""


@pytest.fixture
def look(browser: Browser) -> Look:
    """Return what opens the page."""

    @contextmanager
    def opened(url: str, *, fragment: str = "", settle: bool = True, **context: Any) -> Iterator[Visit]:
        with browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "locale": "en-US", **context}) as fresh:
            visit = Visit(fresh.new_page(), url)
            visit.page.goto(f"{url}/{fragment}")
            if settle:
                visit.settled()
            yield visit
            assert [] == visit.problems
            assert [] == [asked for asked in visit.requests if not asked.startswith((f"{url}/", "blob:"))]

    return opened


def shoot(visit: Visit, name: str) -> None:
    """Write a picture of the whole page for those who review it."""
    SCREENSHOTS.mkdir(exist_ok=True)
    visit.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
