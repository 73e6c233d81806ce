"""Rejected events in an operator's hands: listed, shown, corrected, sent again, and each counted once."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx2
from click.testing import CliRunner

from functions.cli import main
from functions.core.access import AccessKey, sha256_of
from tests.quarantine_by_hand.rejected import BAD, DATA, event, listed, post, users

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from functions.core.settings import Settings
    from tests.conftest import FunctionProcess, ServeFunction


def test_an_event_is_corrected_and_sent_again_and_counts_once(
    ingest: FunctionProcess, keyed: Settings, run: Callable[..., Result]
) -> None:
    """Bad, listed, shown, fixed, redriven; redriven again, sent again by its app: once."""
    _, rejected = post(ingest, [event("1", DATA), event("2", BAD)])
    entry_id = rejected["quarantine_id"]

    table = run("list").stdout
    for word in (entry_id, "wrong_type", "/user_id", "phones", "/phone", "now: 1, 0 of them corrected"):
        assert word in table
    shown = json.loads(run("show", entry_id).stdout)
    assert (event("2", BAD), None, "phones") == (shown["received"], shown["fixed"], shown["key"])
    assert "/user_id" == shown["faults"][0]["pointer"]

    assert "1 left out: not corrected" in run("redrive").stdout
    fixed = run("fix", entry_id, "--set", "/user_id=ann")
    assert (0, "1 corrected\n") == (fixed.exit_code, fixed.stdout)
    assert event("2", {**BAD, "user_id": "ann"}) == json.loads(run("show", entry_id).stdout)["fixed"]
    dry = run("redrive", "--dry-run")
    assert "1 would be sent" in dry.stdout
    assert ["u"] == users(keyed)

    redriven = run("redrive")
    assert (0, ["1 accepted", "in the quarantine: 0, 0 of them corrected"]) == (
        redriven.exit_code,
        redriven.stdout.splitlines(),
    )
    assert [] == listed(run)
    assert 0 == run("redrive").exit_code
    assert ["duplicate"] == [answer["verdict"] for answer in post(ingest, [event("2", {**DATA, "user_id": "ann"})])]
    assert ["ann", "u"] == users(keyed)


def test_what_was_sent_by_a_redrive_that_died_counts_once(
    ingest: FunctionProcess, keyed: Settings, run: Callable[..., Result]
) -> None:
    """Accepted, and not yet taken out: the next redrive is told duplicate, and takes it out."""
    (rejected,) = post(ingest, [event("1", BAD)])
    run("fix", rejected["quarantine_id"], "--set", "/user_id=ann")
    assert ["accepted"] == [answer["verdict"] for answer in post(ingest, [event("1", {**DATA, "user_id": "ann"})])]

    redriven = run("redrive")

    assert (0, "1 duplicate") == (redriven.exit_code, redriven.stdout.splitlines()[0])
    assert [] == listed(run)
    assert ["ann"] == users(keyed)


def test_a_redrive_that_is_killed_loses_and_doubles_nothing(
    ingest: FunctionProcess, keyed: Settings, run: Callable[..., Result], environment: dict[str, str]
) -> None:
    """SIGKILL at whatever moment, again and again; then one that may end."""
    for start in range(0, 2000, 500):
        post(ingest, [event(str(number), {**BAD, "event": f"e{number}"}) for number in range(start, start + 500)])
    fixed = run("fix", "--code", "wrong_type", "--set", "/user_id=ann")
    assert "2,000 corrected" in fixed.stdout

    command = [sys.executable, "-m", "functions", "quarantine", "redrive"]
    for _ in range(4):
        before = len(users(keyed))
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 30
        while len(users(keyed)) == before < 2000 and time.monotonic() < deadline_s:
            time.sleep(0.005)
        process.kill()
        process.wait()
    assert 0 == run("redrive").exit_code

    assert ["ann"] * 2000 == users(keyed)
    assert [] == listed(run)


def test_items_of_lists_and_arrays_keep_their_names(
    ingest: FunctionProcess, keyed: Settings, run: Callable[..., Result]
) -> None:
    """Corrected and sent by themselves they are what they were in their list: the corrected list adds nothing."""
    post(ingest, [event("list", [DATA, BAD])])
    post(ingest, [DATA, BAD], "/api/process", **{"idempotency-key": "k"})
    post(ingest, [BAD], "/api/process")
    assert 0 == run("fix", "--since", "1h", "--set", "/user_id=ann").exit_code

    redriven = run("redrive")

    assert "3 accepted" in redriven.stdout, redriven.output
    assert ["ann"] * 3 + ["u"] * 2 == users(keyed)
    assert ["duplicate"] * 2 == [
        answer["verdict"] for answer in post(ingest, [event("list", [DATA, {**DATA, "user_id": "ann"}])])
    ]
    post(ingest, [DATA, {**DATA, "user_id": "ann"}], "/api/process", **{"idempotency-key": "k"})
    assert 5 == len(users(keyed))


def test_what_is_right_by_now_can_be_sent_as_it_came(
    keyed: Settings, run: Callable[..., Result], serve_function: ServeFunction
) -> None:
    """A limit was too low: once it is raised, whatever it kept out goes in, and the rest is left."""
    with serve_function("ingest", keyed, FLYERTIME_MAX_FIELD_BYTES="8") as strict:
        strict_verdicts = post(
            strict, [event("1", {**DATA, "user_id": "a" * 9}), event("2", {**BAD, "event": "e" * 9})]
        )
    assert ["rejected"] * 2 == [answer["verdict"] for answer in strict_verdicts]

    redriven = run("redrive", "--code", "too_long")

    assert "1 accepted, 1 left out" in redriven.stdout
    assert "/user_id: must be a string, not null" in redriven.stderr
    assert ["a" * 9] == users(keyed)
    assert ["2"] == [entry["event_id"] for entry in listed(run)]


def test_a_correction_that_is_not_one_changes_nothing(ingest: FunctionProcess, run: Callable[..., Result]) -> None:
    """It is checked as ingest would, and says what is wrong; a name may not change."""
    (rejected,) = post(ingest, [event("1", BAD)])
    entry_id = rejected["quarantine_id"]

    for arguments, status, words in (
        (["--set-json", "/user_id=7"], 1, "still wrong: /user_id: must be a string, not a number"),
        (["--set", "/user_id=ann", "--set", "/ce-id=2"], 2, "an event keeps its id"),
        (["--set", "/user_id=ann", "--set", "/ce-source=/x"], 2, "an event keeps its source"),
        (["--set", "user_id=ann"], 2, "no JSON pointer"),
        (["--set", "/a/b=c"], 2, "there is no 'a'"),
        (["--set", "/user_id"], 2, "write POINTER=VALUE"),
        (["--set-json", "/user_id=ann"], 2, "not JSON"),
        (["--remove", "/nothing"], 2, "there is nothing"),
        ([], 2, "say what to correct"),
    ):
        result = run("fix", entry_id, *arguments)
        assert status == result.exit_code, (arguments, result.output)
        assert words in result.stderr
    assert "name the events" in run("fix", "--set", "/user_id=ann").stderr
    assert None is json.loads(run("show", entry_id).stdout)["fixed"]


def test_any_fault_can_be_corrected(ingest: FunctionProcess, keyed: Settings, run: Callable[..., Result]) -> None:
    """Attributes, whole payloads, what is no object at all; from a file, by an editor."""
    answers = post(
        ingest,
        [
            event("", {**DATA, "user_id": "no id"}),
            event("name", {**DATA, "user_id": "bad name"}, **{"Bad-Name": "x"}),
            event("text", "hello", datacontenttype="text/plain"),
            5,
            event("base64", None, data_base64="%%"),
            event("edited", BAD),
        ],
    )
    ids = [answer["quarantine_id"] for answer in answers]
    whole = json.dumps({**DATA, "user_id": "whole"})
    editor = f"{sys.executable} -c \"import sys; p = sys.argv[1]; t = open(p).read(); open(p, 'w').write(t.replace('null', chr(34) + 'edited' + chr(34)))\""  # noqa: E501
    for arguments, text in (
        ([ids[0], "--set", "/ce-id=given"], None),
        ([ids[1], "--remove", "/ce-Bad-Name"], None),
        ([ids[2], "--set-json", f"/data={whole}", "--remove", "/ce-datacontenttype"], None),
        ([ids[3], "--file", "-"], json.dumps(event("file", {**DATA, "user_id": "from a file"}))),
        ([ids[4], "--set-json", f"/data={whole}"], None),
        ([ids[5], "--edit"], None),
    ):
        result = CliRunner().invoke(
            main,
            ["quarantine", "fix", *arguments],
            env={
                "FLYERTIME_REDIS_URL": keyed.redis_url,
                "FLYERTIME_NAMESPACE": keyed.namespace,
                "EDITOR": editor,
                "VISUAL": editor,
            },
            input=text,
        )
        assert 0 == result.exit_code, (arguments, result.output)

    redriven = run("redrive")
    assert "6 accepted" in redriven.stdout, redriven.output
    assert ["bad name", "edited", "from a file", "no id", "whole", "whole"] == users(keyed)


def test_a_redrive_that_is_not_let_in_says_so_and_keeps_everything(
    ingest: FunctionProcess, run: Callable[..., Result]
) -> None:
    """A wrong key is told as such, and not repeated."""
    (rejected,) = post(ingest, [event("1", BAD)])
    run("fix", rejected["quarantine_id"], "--set", "/user_id=ann")

    refused = run("redrive", "--key", "ftw_wrong")
    assert (2, True) == (refused.exit_code, "answered 401" in refused.stderr)
    assert "ftw_wrong" not in refused.output
    assert 1 == len(listed(run, "--fixed"))


def test_a_redrive_keeps_to_the_rate_of_its_key(
    settings: Settings,
    run: Callable[..., Result],
    serve_function: ServeFunction,
    ingest: FunctionProcess,
    keyed: Settings,
) -> None:
    """Told that it is too fast, it waits as long as it is asked to, and loses nothing."""
    post(ingest, [event(str(number), {**BAD, "event": f"e{number}"}) for number in range(250)])
    run("fix", "--code", "wrong_type", "--set", "/user_id=ann")
    token = "ftw_slow-0123456789abcdef"
    line = f"{AccessKey('slow', sha256_of(token)).line}:rate=200:burst=100"
    slow = dataclasses.replace(settings, write_keys=line)
    with serve_function("ingest", slow, FLYERTIME_METRICS="on") as process:
        redriven = run("redrive", "--to", process.url, "--key", token)
        metrics = httpx2.get(f"{process.url}/metrics", trust_env=False).text

    assert (0, "250 accepted") == (redriven.exit_code, redriven.stdout.splitlines()[0])
    assert 'flyertime_errors_total{code="too_fast"}' in metrics
    assert ["ann"] * 250 == users(keyed)


def test_what_ingest_still_rejects_stays_and_is_not_kept_twice(
    ingest: FunctionProcess, run: Callable[..., Result], serve_function: ServeFunction, keyed: Settings
) -> None:
    """Its rules are the ones that count: the reason is told, the entry stays as it is."""
    (rejected,) = post(ingest, [event("1", BAD)])
    run("fix", rejected["quarantine_id"], "--set", "/user_id=ann-with-a-long-name")
    with serve_function("ingest", keyed, FLYERTIME_MAX_FIELD_BYTES="8") as strict:
        redriven = run("redrive", "--to", strict.url)

    assert (1, "1 rejected") == (redriven.exit_code, redriven.stdout.splitlines()[0])
    assert "/user_id at most 8 bytes" in redriven.stderr
    assert 1 == len(listed(run))
