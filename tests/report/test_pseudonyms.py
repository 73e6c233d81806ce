"""What partners who put their data together may not find out: ids, and numbers of small groups."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import httpx2
import pytest

from functions.core.pseudonyms import Pseudonyms, is_pseudonym
from functions.report.routes import Answer, Route
from tests.report.readers import (
    ACME,
    ACME2,
    ALL,
    CASES,
    HOUR_S,
    KEYS,
    LINES,
    OPEN,
    TOKENS,
    all_answers,
    bearer,
    get,
    paths,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.core.settings import Settings
    from tests.conftest import ServeFunction
    from tests.report.conftest import Put


def test_pseudonyms_hide_ids_and_their_order(
    serve_function: ServeFunction, report_settings: Settings, filled: httpx2.Client
) -> None:
    """A merchant's reader sees other names than another's, in an order of their own, and finds users by these alone."""
    settings = dataclasses.replace(report_settings, read_keys=LINES)
    assert filled.get("/", headers=bearer(ALL)).status_code == 200
    with (
        serve_function("report", settings, FLYERTIME_PSEUDONYM_SECRET="a secret") as process,
        httpx2.Client(base_url=process.url, trust_env=False) as client,
    ):
        seen = {token: [row["user_id"] for row in get(client, "/", token)] for token in KEYS}
        pages = get(client, "/?limit=4", ACME)
        rest = get(client, pages["next"], ACME)
        one = get(client, f"/users/{seen[ACME][0]}", ACME)

        assert 404 == client.get("/users/shared", headers=bearer(ACME)).status_code
        assert 404 == client.get(f"/users/{seen[ACME][0][:-1]}", headers=bearer(ACME)).status_code
        assert 404 == client.get(f"/users/{seen[ACME2][0]}", headers=bearer(ACME)).status_code
        assert [] == get(client, "/?prefix=user", ACME)
    assert "shared" in seen[ALL]
    merchants = [set(seen[token]) for token in KEYS if token != ALL]
    assert all(len(names) == 6 and not names & {"shared"} for names in merchants)
    assert not set.intersection(*merchants)
    assert not any("user-of" in name for names in merchants for name in names)
    assert sorted(seen[ACME]) == seen[ACME] == [row["user_id"] for row in pages["rows"] + rest["rows"]]
    assert seen[ACME][0] == one["user_id"]


@pytest.fixture(scope="module")
def hidden(serve_function: ServeFunction, report_settings: Settings) -> Iterator[httpx2.Client]:
    """A client of a report that asks for keys, and shows merchants pseudonyms, and no group of fewer than eight."""
    settings = dataclasses.replace(report_settings, read_keys=LINES)
    secret = {"FLYERTIME_PSEUDONYM_SECRET": "a secret", "FLYERTIME_MIN_GROUP_USERS": "8"}
    with (
        serve_function("report", settings, **secret) as process,
        httpx2.Client(base_url=process.url, trust_env=False, timeout=30) as client,
    ):
        yield client


@pytest.mark.parametrize(("route", "query"), [case for case in CASES if case.values[0].answer not in OPEN])  # type: ignore[union-attr]
def test_no_id_and_no_small_group_is_in_any_answer(
    hidden: httpx2.Client, filled: httpx2.Client, route: Route, query: dict[str, str]
) -> None:
    """Of any route, in any format, with any filter, order and page: pseudonyms alone, and no number of six users."""
    assert 200 == filled.get("/", headers=bearer(ALL)).status_code
    for merchant, token in TOKENS.items():
        pseudonyms = Pseudonyms("a secret", merchant)
        shown = pseudonyms.of(b"shared").decode()
        assert 404 == hidden.get(paths(route, merchant), params=query, headers=bearer(token)).status_code or (
            route.answer is not Answer.USER
        )
        answer = hidden.get(paths(route, merchant, shown), params=query, headers=bearer(token))
        said = text_of(answer)
        assert 200 == answer.status_code, answer.text
        assert "user-of" not in said
        assert "shared" not in said
        if route.answer is Answer.USER:
            assert shown in said
        if route.answer is Answer.USERS and query.keys() <= {"format"}:
            assert shown in said
        if route.answer is Answer.SUMMARY:
            assert (None, None, []) == tuple(answer.json()[name] for name in ("users", "sessions", "histogram"))
        if route.answer is Answer.MERCHANTS and query in ({}, {"format": "json"}):
            assert [merchant, *[None] * 6] == [*answer.json()[0].values()]
        if route.answer is Answer.MERCHANTS and query == {"format": "csv"}:
            assert answer.text.endswith(",,,,,,\r\n")


@pytest.mark.parametrize("sort", ["", "&sort=-user_id"])
def test_pages_of_pseudonyms_are_complete_while_runs_commit(
    hidden: httpx2.Client, filled: httpx2.Client, put: Put, sort: str
) -> None:
    """Nobody comes twice, and who was there at first is not missed; what a page ends with is a pseudonym too."""
    first = {f"u{number}": (HOUR_S, 1) for number in range(40)}
    put(None, {"acme": first})
    before = {row["user_id"] for row in get(filled, "/", ACME)}
    page = get(hidden, f"/?limit=6{sort}", ACME)
    read = [row["user_id"] for row in page["rows"]]
    while page["next"]:
        put(None, {"acme": {f"n{len(read)}": (1, 1), f"u{len(read) % 40}": (len(read), 2)}})
        page = get(hidden, page["next"], ACME)
        read += [row["user_id"] for row in page["rows"]]
    pseudonyms = Pseudonyms("a secret", "acme")

    assert len(read) == len(set(read))
    assert {pseudonyms.of(name.encode()).decode() for name in before} <= set(read)


def test_an_event_shows_no_id_and_no_small_group(hidden: httpx2.Client, filled: httpx2.Client) -> None:
    """What is true of addresses is true of events."""
    assert 200 == filled.get("/", headers=bearer(ALL)).status_code
    said = {name: answer for name, answer in all_answers(hidden, ACME) if name.startswith("event")}
    rows = said["event-True"].json()["data"]["rows"]

    assert {"event-False", "event-True"} == said.keys()
    assert (None, []) == tuple(said["event-False"].json()["data"]["summary"][name] for name in ("users", "histogram"))
    assert 6 == len(rows)
    assert all(is_pseudonym(row["user_id"]) for row in rows)


def test_small_groups_are_not_shown(
    serve_function: ServeFunction, report_settings: Settings, filled: httpx2.Client, put: Put
) -> None:
    """With a least size set, no summary, bucket or percentile is of fewer users."""
    assert filled.get("/", headers=bearer(ALL)).status_code == 200
    put(None, {"large": {f"u{number}": (number * 360, 1) for number in range(40)}})
    with (
        serve_function("report", report_settings, FLYERTIME_MIN_GROUP_USERS="8") as process,
        httpx2.Client(base_url=process.url, trust_env=False) as client,
    ):
        small = client.get("/merchants/acme/summary").json()
        large = client.get("/merchants/large/summary").json()
        merchants = {row["merchant_id"]: row["users"] for row in client.get("/merchants").json()}

    assert (None, None, None, []) == (small["users"], small["sessions"], small["mean_hours"], small["histogram"])
    assert {"acme": None, "acme2": None, "zephyr/ü:1": None, "large": 40} == merchants
    assert 40 == large["users"] == sum(bucket["users"] for bucket in large["histogram"])
    assert all(bucket["users"] >= 8 for bucket in large["histogram"])
    assert (None, 1.9) == (large["percentiles"]["p99"], large["percentiles"]["p50"])
