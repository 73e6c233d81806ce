"""Rejected events in an operator's hands: listed, narrowed, shown and thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.testing import CliRunner

from functions.cli import main
from tests.quarantine_by_hand.rejected import BAD, DATA, event, listed, post

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis
    from click.testing import Result

    from functions.core.settings import Settings
    from tests.conftest import FunctionProcess, ServeFunction


def test_a_list_can_be_narrowed(ingest: FunctionProcess, run: Callable[..., Result]) -> None:
    """By code, source, key, time and whether it was corrected; what cannot be understood says so."""
    post(ingest, [event("1", BAD), event("2", {**DATA, "timestamp": "x"}, source="/till/7"), event("3", {})])
    run("fix", listed(run)[0]["id"], "--set", "/user_id=ann")

    for arguments, ids in (
        ([], ["1", "2", "3"]),
        (["--code", "missing"], ["3"]),
        (["--source", "/till"], ["2"]),
        (["--key-name", "phones"], ["1", "2", "3"]),
        (["--key-name", "other"], []),
        (["--since", "1h"], ["1", "2", "3"]),
        (["--since", "2999-01-01T00:00:00Z"], []),
        (["--fixed"], ["1"]),
        (["--not-fixed", "--code", "bad_timestamp"], ["2"]),
    ):
        assert ids == [entry["event_id"] for entry in listed(run, *arguments)]
    short = run("list", "--limit", "1").stdout
    assert "and 2 more" in short
    assert "no such event" in run("list", "--code", "none").stdout
    assert "90s, 15m, 2h, 3d" in run("list", "--since", "yesterday").stderr


def test_the_list_says_what_the_caps_are_and_what_they_cost(
    serve_function: ServeFunction, keyed: Settings, run: Callable[..., Result]
) -> None:
    """Nothing is lost in silence."""
    before = run("list").stdout
    with serve_function("ingest", keyed, FLYERTIME_QUARANTINE_MAX_EVENTS="10") as ingest:
        post(ingest, [event(str(number), {"n": number}) for number in range(17)])
    after = run("list").stdout

    assert "at most 10,000 events and 33.6 MB, each for 30 days" in before
    assert "lost" not in before
    assert "now: 10, 0 of them corrected" in after
    assert "ever: 17 kept, 0 redriven, 0 discarded, 0 erased, 0 expired" in after
    assert "lost to the caps: 0 pushed out by newer ones, 7 by newer ones of their own key" in after


def test_the_status_says_that_there_are_some(
    ingest: FunctionProcess, environment: dict[str, str], run: Callable[..., Result]
) -> None:
    """Where nobody asks for them; and nothing where there are none."""
    assert "quarantine" not in CliRunner().invoke(main, ["status"], env=environment).stdout
    post(ingest, [event("1", BAD)])
    assert "quarantine: 1 rejected events" in CliRunner().invoke(main, ["status"], env=environment).stdout
    assert 0 == run("discard", "--all", "--yes").exit_code


def test_what_is_gone_is_told(run: Callable[..., Result]) -> None:
    """An id that names nothing, in every command."""
    for arguments in (
        ["show", "1-1"],
        ["fix", "1-1", "--set", "/a=b"],
        ["redrive", "1-1"],
        ["discard", "1-1", "--yes"],
    ):
        result = run(*arguments)
        assert (2, True) == (result.exit_code, "there is no 1-1 in the quarantine" in result.stderr), arguments


def test_events_can_be_thrown_away(ingest: FunctionProcess, run: Callable[..., Result]) -> None:
    """After a question; chosen ones or, when told so, all."""
    post(ingest, [event("1", BAD), event("2", {}), event("3", BAD)])

    assert 2 == run("discard", "--yes").exit_code
    assert 1 == run("discard", "--code", "missing", input="n\n").exit_code
    assert "1 thrown away" in run("discard", "--code", "missing", input="y\n").stdout
    assert ["1", "3"] == [entry["event_id"] for entry in listed(run)]
    assert "2 thrown away" in run("discard", "--all", "--yes").stdout
    assert [] == listed(run)


def test_a_store_that_was_filled_by_hand_is_listed_in_full(
    ingest: FunctionProcess, run: Callable[..., Result], raw_redis: redis.Redis, keyed: Settings
) -> None:
    """More than a page: everything is there once, in order."""
    for start in range(0, 900, 300):
        post(ingest, [event(str(number), {"n": number}) for number in range(start, start + 300)])

    assert [str(number) for number in range(900)] == [entry["event_id"] for entry in listed(run)]
    assert 900 == raw_redis.xlen(f"{{{keyed.namespace}}}:quarantine")
