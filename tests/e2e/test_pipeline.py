"""From events over HTTP to the report: everything real."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent

if TYPE_CHECKING:
    from functions.local.stack import Stack

pytestmark = pytest.mark.timeout(240)

HOUR = "2026-03-02T09:00:00Z"
RAW_CURL_BODY = (
    '[{"timestamp":"2018-10-01T13:54:59-04:00",'
    '"user_id":"9ea6aa3d4a9f3a4b8f7d4a6f2a5b7c8d","event":"shopping_list_open","flyer_id":"","merchant_id":""}]'
)


def app_event(user: str, event: str, moment: str, flyer: str = "f1") -> dict[str, str]:
    """Return an app event's data."""
    return {"timestamp": moment, "user_id": user, "event": event, "flyer_id": flyer, "merchant_id": "m1"}


def visit(user: str, minutes: int) -> list[dict[str, str]]:
    """Return an open and the close so many minutes later."""
    return [
        app_event(user, "flyer_open", "2026-03-02T08:00:00Z"),
        app_event(user, "flyer_close", f"2026-03-02T08:{minutes:02}:00.250Z"),
    ]


def wait_for(stack: Stack, expected: dict[str, float], timeout_s: float = 60) -> None:
    """Poll the report until it has these users with these averages."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        rows = httpx2.get(stack.urls["report"], timeout=10, trust_env=False).json()
        shown = {row["user_id"]: row["avg_time_on_flyer_per_user_hours"] for row in rows}
        if expected.items() <= shown.items():
            return
        assert time.monotonic() < deadline_s, f"{expected} not in {shown}"
        time.sleep(0.2)


def post(url: str, headers: Any, content: Any) -> httpx2.Response:
    """Post, and expect success."""
    response = httpx2.post(url, headers=dict(headers), content=content, timeout=90, trust_env=False)
    assert response.is_success, response.text
    return response


def test_events_of_every_mode_are_in_the_report_once_they_are_old_enough(stack: Stack) -> None:
    """Binary and structured events of the cloudevents library, a batch, a list in data, repeats: each counts once.

    They are far fewer than the threshold; the age rule folds them, found by the ping.
    """
    url = stack.urls["ingest"]
    for encode, user in ((to_binary, "binary"), (to_structured, "structured")):
        for number, data in enumerate(visit(user, 30)):
            event = CloudEvent({"type": "app", "source": "/e2e", "id": f"{user}-{number}"}, data)
            for _ in range(2):
                post(url, *encode(event))
    batch = [
        {"specversion": "1.0", "id": f"batch-{n}", "source": "/e2e", "type": "app", "data": data}
        for n, data in enumerate(visit("batch", 45))
    ]
    post(url, {"content-type": "application/cloudevents-batch+json"}, json.dumps(batch + batch))
    in_list = {"specversion": "1.0", "id": "list", "source": "/e2e", "type": "app", "data": visit("list", 15)}
    post(url, {"content-type": "application/cloudevents+json"}, json.dumps(in_list))

    wait_for(stack, {"binary": 0.5, "structured": 0.5, "batch": 0.75, "list": 0.25})


def test_the_older_interface_waits_for_its_events_when_asked_to(stack: Stack) -> None:
    """The raw array with Prefer: wait is answered with a report that has these events."""
    url = f"{stack.urls['ingest']}/api/process"
    headers = {"content-type": "application/json", "prefer": "wait=45"}
    reply = post(url, headers, json.dumps(visit("raw", 36)))

    assert "true" == reply.headers["flyertime-folded"]
    assert {"user_id": "raw", "avg_time_on_flyer_per_user_hours": 0.6} in reply.json()


def test_the_curl_of_old_is_answered_with_the_report(stack: Stack) -> None:
    """The request that apps have always sent: an event that adds no time, answered with the report's array."""
    reply = post(f"{stack.urls['ingest']}/api/process", {"content-type": "application/json"}, RAW_CURL_BODY)

    assert isinstance(reply.json(), list)
    assert "1" == reply.headers["flyertime-accepted"]


def test_a_backlog_that_reaches_the_threshold_starts_a_run_at_once(stack: Stack) -> None:
    """Late events merge into the state; a run for the threshold needs no age and no flush."""
    late = [app_event("late", "flyer_open", "2026-03-02T08:30:00Z"), app_event("late", "flyer_close", HOUR)]
    post(f"{stack.urls['ingest']}/api/process", {"content-type": "application/json", "prefer": "wait=45"},
         json.dumps(late))  # fmt: skip
    wait_for(stack, {"late": 0.5})
    early = [app_event("late", "flyer_open", "2026-03-02T07:00:00Z")]
    others = [data for number in range(60) for data in visit(f"crowd-{number}", 6)]
    post(f"{stack.urls['ingest']}/api/process", {"content-type": "application/json"}, json.dumps(early + others))

    wait_for(stack, {"late": 1.0, "crowd-0": 0.1, "crowd-59": 0.1})
    runs = httpx2.get(stack.urls["trigger"], timeout=10, trust_env=False).json()["runs"]
    assert len(runs) >= 2
    assert {"succeeded"} == {run["state"] for run in runs if run["state"] != "active"}


def flyertime(stack: Stack, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command line against the stack."""
    environment = {
        "FLYERTIME_REDIS_URL": stack.valkey.url,
        **{f"FLYERTIME_{target.upper()}_URL": url for target, url in stack.urls.items()},
    }
    return subprocess.run(
        [sys.executable, "-m", "functions", *arguments],
        input=stdin,
        env={"PATH": "", "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_the_command_line_goes_from_a_file_to_the_report(stack: Stack) -> None:
    """replay, flush --wait, report and status, as in the README."""
    content = json.dumps(visit("file", 54)).encode()

    first = flyertime(stack, "replay", "-", stdin=content)
    again = flyertime(stack, "replay", "-", stdin=content)
    flush = flyertime(stack, "flush", "--wait")
    report = flyertime(stack, "report", "--user", "file", "--json")
    status = flyertime(stack, "status")

    assert [0, 0, 0, 0, 0] == [done.returncode for done in (first, again, flush, report, status)]
    assert b"accepted            2" in first.stdout
    assert b"duplicate           2" in again.stdout
    assert {"user_id": "file", "avg_time_on_flyer_per_user_hours": 0.9} == json.loads(report.stdout)
    assert b"trigger: nothing_pending" in status.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["report", "--from", "http://127.0.0.1:9"], 75, "http://127.0.0.1:9/ does not answer"),
        (["report", "--user", "nobody"], 2, "answered 404"),
        (["replay", "no-such-file"], 2, "No such file"),
        (["flush", "--trigger", "http://127.0.0.1:9"], 75, "is it running?"),
    ],
)
def test_the_command_line_says_in_one_line_what_is_wrong(
    stack: Stack, arguments: list[str], status: int, words: str
) -> None:
    """No traceback, a status that says whether to try again."""
    done = flyertime(stack, *arguments)

    assert status == done.returncode
    assert words in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
