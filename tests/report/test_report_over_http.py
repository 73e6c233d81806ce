"""The report as its readers get it, from state put into the store as the Spark job does."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from functions.core.report_query import FORMATS
from functions.core.shards import shard_of
from functions.report.routes import ROUTES

if TYPE_CHECKING:
    import httpx2
    import redis

    from functions.report.routes import Route
    from tests.report.conftest import Put

SHARDS = 4
HOUR_S = 3600


def test_an_empty_report_is_an_empty_array(report: httpx2.Client) -> None:
    """Before the first fold there is a report, and it is empty."""
    response = report.get("/")

    assert (200, "application/json", []) == (response.status_code, response.headers["content-type"], response.json())


def test_the_report_has_the_reference_columns(report: httpx2.Client, put: Put) -> None:
    """Each user's average is in hours with two digits, rounded half up."""
    put(a=(HOUR_S, 2), b=(18, 1), c=(17, 1))

    assert {"a": 0.5, "b": 0.01, "c": 0.0} == {
        row["user_id"]: row["avg_time_on_flyer_per_user_hours"] for row in report.get("/").json()
    }


def test_users_stand_in_a_stable_order(report: httpx2.Client, put: Put) -> None:
    """Shard after shard and by id within one, however the users came in."""
    names = [f"user{number}" for number in range(200)]
    put(dict.fromkeys(reversed(names), (1, 1)))

    assert sorted(names, key=lambda name: (shard_of(name, SHARDS), name)) == [
        row["user_id"] for row in report.get("/").json()
    ]


def test_one_user_is_found_by_any_id(report: httpx2.Client, put: Put) -> None:
    """An id may hold whatever text there is; in the path it is percent-encoded."""
    users = ["plain", "with/slash", "sp ace", "ünï😀", "100%", "a?b#c", "..", "%2F"]
    put(dict.fromkeys(users, (7 * HOUR_S, 2)))

    for user in users:
        response = report.get(f"/users/{quote(user, safe='').replace('.', '%2E')}")
        assert (200, {"user_id": user, "avg_time_on_flyer_per_user_hours": 3.5}) == (
            response.status_code,
            response.json(),
        )


def test_one_user_shows_a_commit_at_once(report: httpx2.Client, put: Put) -> None:
    """Whatever was read just before; who has the answer of before is not told that it still holds."""
    for seconds in (3600, 7200, 10_800):
        put(u=(seconds, 1))
        answer = report.get("/users/u")
        assert seconds / 3600 == answer.json()["avg_time_on_flyer_per_user_hours"]
        put(u=(seconds + 1800, 1))
        again = report.get("/users/u", headers={"if-none-match": answer.headers["etag"]})
        assert (200, seconds / 3600 + 0.5) == (again.status_code, again.json()["avg_time_on_flyer_per_user_hours"])
        unchanged = report.get("/users/u", headers={"if-none-match": again.headers["etag"]})
        assert 304 == unchanged.status_code


def test_an_unknown_user_is_a_404_that_says_so(report: httpx2.Client, put: Put) -> None:
    """A user without a pair of events is not in the report either."""
    put(once=(0, 0))
    for user in ("nobody", "once"):
        response = report.get(f"/users/{user}")
        assert (404, "no_such_user") == (response.status_code, response.json()["code"])

    assert [] == report.get("/").json()


def test_the_etag_changes_exactly_when_the_content_does(report: httpx2.Client, put: Put) -> None:
    """A commit that shows nothing new keeps the tag; one that does changes it, also back to earlier content."""
    tags = [report.get("/").headers["etag"]]
    put(a=(HOUR_S, 2))
    tags.append(report.get("/").headers["etag"])
    put(report_changes=False, a=(HOUR_S + 1, 2))
    assert tags[-1] == report.get("/").headers["etag"]
    put(a=(2 * HOUR_S, 2))
    tags.append(report.get("/").headers["etag"])
    put(a=(HOUR_S, 2))
    tags.append(report.get("/").headers["etag"])

    assert 4 == len(set(tags))


def test_a_store_emptied_and_filled_again_has_other_etags(
    report: httpx2.Client, put: Put, raw_redis: redis.Redis
) -> None:
    """A tag of the past never fits other content of the same age."""
    put(a=(HOUR_S, 2))
    before = report.get("/").headers["etag"]
    for shard in range(SHARDS):
        raw_redis.delete(f"{{report:{shard}}}:ledger", f"{{report:{shard}}}:averages")
    put(a=(9 * HOUR_S, 2))

    assert before != report.get("/").headers["etag"]


@pytest.mark.parametrize("path", ["/", "/users/a"])
def test_who_has_the_content_gets_a_304(report: httpx2.Client, put: Put, path: str) -> None:
    """If-None-Match with the current tag, alone, weak, in a list or as a star, spares the content."""
    put(a=(HOUR_S, 2))
    etag = report.get(path).headers["etag"]

    for condition in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        response = report.get(path, headers={"if-none-match": condition})
        assert (304, b"", etag) == (response.status_code, response.content, response.headers["etag"])
    assert 200 == report.get(path, headers={"if-none-match": '"other"'}).status_code


def test_a_304_reads_no_averages(report: httpx2.Client, put: Put, raw_redis: redis.Redis) -> None:
    """How the shards stand is read for it, and the books, but not a user."""
    put(a=(HOUR_S, 2))
    etag = report.get("/").headers["etag"]
    raw_redis.config_resetstat()
    assert 304 == report.get("/", headers={"if-none-match": etag}).status_code

    stats = raw_redis.info("commandstats")
    assert (1, 1) == (stats["cmdstat_evalsha"]["calls"], stats["cmdstat_xrevrange"]["calls"] - SHARDS)
    assert SHARDS == stats["cmdstat_hgetall"]["calls"], "the books, inside the script"
    assert 1 == stats["cmdstat_hget"]["calls"], "the generation"
    assert not {"cmdstat_hmget", "cmdstat_hscan"} & stats.keys()


@pytest.mark.parametrize("coding", ["identity", "gzip", "zstd"])
@pytest.mark.parametrize("wanted", FORMATS)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_head_says_what_get_would(report: httpx2.Client, put: Put, route: Route, wanted: str, coding: str) -> None:
    """HEAD has the headers and no body, of every route and format, packed or not; a 304 too."""
    put({"a": (HOUR_S, 2)}, {"m": {"a": (HOUR_S, 2)}})
    path = route.template.format(user_id="a", merchant_id="m") + (f"?format={wanted}" if route.has_formats else "")
    for _ in range(3):  # one user's answer tells how the store stood up to a second ago, which may end in between
        head, get = (report.request(method, path, headers={"accept-encoding": coding}) for method in ("HEAD", "GET"))
        for answer in (head, get):
            answer.headers.pop("date")
        if head.headers == get.headers:
            break
    known = report.head(path, headers={"accept-encoding": coding, "if-none-match": get.headers["etag"]})

    assert (200, b"", dict(get.headers)) == (head.status_code, head.content, dict(head.headers))
    assert (304, get.headers["etag"]) == (known.status_code, known.headers["etag"])


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("PUT", "/", 405, "method_not_allowed"),
        ("POST", "/summary", 405, "method_not_allowed"),
        ("POST", "/", 400, "not_a_cloudevent"),
        ("GET", "/elsewhere", 404, "no_such_path"),
    ],
)
def test_other_requests_are_refused(report: httpx2.Client, method: str, path: str, status: int, code: str) -> None:
    """The refusal says what would be right."""
    response = report.request(method, path)

    assert (status, code) == (response.status_code, response.json()["code"])
