"""The lines that requests leave in the log: those that somebody may want to know of."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import redis

if TYPE_CHECKING:
    from pathlib import Path

    from functions.core.settings import Settings
    from tests.conftest import ServeFunction

DATA = {"timestamp": "2026-01-01T00:00:00Z", "user_id": "u", "event": "flyer_open", "flyer_id": "f", "merchant_id": "m"}
BINARY = {"content-type": "application/json", "ce-specversion": "1.0", "ce-source": "/s", "ce-type": "t"}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def lines_of(log: Path) -> list[dict[str, Any]]:
    """Return the lines about requests; every line of the log must be JSON."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line["logger"] == "functions.adapters.access_log"]


def post(url: str, event_id: str, data: object, **headers: str) -> int:
    """Send an event and return the status."""
    sent = {**BINARY, "ce-id": event_id, "traceparent": TRACEPARENT, **headers}
    return httpx2.post(url, content=json.dumps(data), headers=sent, timeout=10, trust_env=False).status_code


@pytest.mark.parametrize(("setting", "logged"), [("problems", ["bad"]), ("all", ["good", "bad"]), ("off", [])])
def test_problems_are_logged_and_all_or_nothing_where_so_set(
    setting: str, logged: list[str], settings: Settings, serve_function: ServeFunction
) -> None:
    """The line says which request, what became of it and how long it took, and nothing of what was sent."""
    with serve_function("ingest", settings, FLYERTIME_ACCESS_LOG=setting) as ingest:
        assert 202 == post(ingest.url, "good", DATA)
        assert 400 == post(ingest.url, "bad", {**DATA, "user_id": 7}, authorization="Bearer hunter2")

    lines = lines_of(ingest.log)
    assert logged == [line["ce_id"] for line in lines]
    assert "hunter2" not in ingest.log.read_text()
    if lines:
        line = lines[-1]
        assert ("POST / 400", "/", 400, {"rejected": 1}, TRACEPARENT) == tuple(
            line[name] for name in ("message", "route", "status", "events", "traceparent")
        )
        assert 0 < line["duration_ms"] < 5000


def test_every_line_of_a_request_names_its_event(settings: Settings, serve_function: ServeFunction) -> None:
    """What goes wrong while it is written too, and what is refused before that."""
    away = dataclasses.replace(settings, redis_url="redis://127.0.0.1:1/0")
    with serve_function("ingest", away) as ingest:
        assert 400 == post(ingest.url, "bad", {})
    lines = [json.loads(line) for line in ingest.log.read_text().splitlines()]
    assert ["bad"] * 2 == [line["ce_id"] for line in lines if line["logger"] != "functions.serving"]

    with serve_function("ingest", settings, FLYERTIME_MAX_REQUEST_EVENTS="1") as ingest:
        assert 202 == post(ingest.url, "first", DATA)
        with redis.Redis.from_url(settings.redis_url) as client:
            for shard in range(4):
                client.delete(f"{{{settings.namespace}:{shard}}}:events")
                client.set(f"{{{settings.namespace}:{shard}}}:events", "no stream")
        assert 503 == post(ingest.url, "second", DATA)
    lines = [json.loads(line) for line in ingest.log.read_text().splitlines()]
    of_writing, of_request = (line for line in lines if line["logger"] != "functions.serving")
    assert "functions.ingest.writing" == of_writing["logger"]
    for line in (of_writing, of_request):
        assert ("second", TRACEPARENT) == (line["ce_id"], line["traceparent"])


@pytest.mark.parametrize(
    ("target", "event_type"), [("trigger", "of.somebody.else"), ("report", "flyertime.report.requested")]
)
def test_the_other_functions_name_their_event_too(
    target: str, event_type: str, settings: Settings, serve_function: ServeFunction
) -> None:
    """One that trigger is not moved by, and one that asks for a report."""
    own = {"FLYERTIME_LAUNCHER": "local", "FLYERTIME_ACCESS_LOG": "all"}
    with serve_function(target, settings, **own) as function:
        assert post(function.url, "seven", {}, **{"ce-type": event_type}) in {200, 204}

    (line,) = lines_of(function.log)
    assert ("seven", TRACEPARENT) == (line["ce_id"], line["traceparent"])


def test_a_slow_request_is_logged_but_not_one_that_was_to_wait(
    settings: Settings, serve_function: ServeFunction
) -> None:
    """`Prefer: wait` is a wish, and no sign of trouble."""
    with serve_function("ingest", settings, FLYERTIME_SLOW_REQUEST_S="0.0001", FLYERTIME_MAX_WAIT_S="1") as ingest:
        body, wait = json.dumps([DATA]), {"content-type": "application/json", "prefer": "wait=1"}
        reply = httpx2.post(f"{ingest.url}/api/process", content=body, headers=wait, timeout=10, trust_env=False)
        assert "false" == reply.headers["flyertime-folded"]
        assert 202 == post(ingest.url, "slow", DATA)

    assert ["slow"] == [line.get("ce_id") for line in lines_of(ingest.log)]


def test_a_flood_of_bad_requests_is_no_flood_of_lines(settings: Settings, serve_function: ServeFunction) -> None:
    """A hundred refusals in a moment are some twenty lines a second, and what was left out is counted."""
    with serve_function("ingest", settings) as ingest, httpx2.Client(trust_env=False) as client:
        for _ in range(200):
            assert 404 == client.get(f"{ingest.url}/nowhere").status_code

    lines = lines_of(ingest.log)
    seconds = {line["time"][:19] for line in lines}
    assert 20 <= len(lines) <= 20 * len(seconds) < 200
