"""Pages that follow are given out without reading the table again, and show every commit all the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from functions.core.report_cursor import Position
from functions.core.report_rows import UserRows
from functions.report.kept_pages import KeptPages, Stretch

if TYPE_CHECKING:
    import httpx2

    from tests.report.conftest import Put

HOUR_S = 3600
USERS = {f"u{number:03}": (number * HOUR_S, 1 + number % 7) for number in range(60)}


def tables_read(report: httpx2.Client) -> int:
    """Return how often the process has read a shard's averages as a whole."""
    pattern = r'^db_client_operation_duration_seconds_count\{.*"report_shard".*\} (\d+)'
    found = re.search(pattern, report.get("/metrics").text, re.MULTILINE)
    return 0 if found is None else int(found[1])


@pytest.mark.parametrize("sort", ["user_id", "-user_id", "-hours", "sessions"])
def test_the_pages_that_follow_read_nothing(report: httpx2.Client, put: Put, sort: str) -> None:
    """Nor does the way back; all pages together are the table."""
    put(USERS)
    whole = report.get("/", params={"sort": sort}).json()
    address = f"/?limit=7&sort={sort}"
    page = report.get(address).json()
    before = tables_read(report)
    rows, addresses = page["rows"], [address]
    while page["next"] is not None:
        addresses.append(page["next"])
        page = report.get(page["next"]).json()
        rows += page["rows"]
    back = [row for each in addresses for row in report.get(each).json()["rows"]]

    assert whole == rows == back
    assert before == tables_read(report)


def test_a_page_after_a_commit_shows_it(report: httpx2.Client, put: Put) -> None:
    """What was read ahead is of a state that is no more."""
    put(USERS)
    first = report.get("/?limit=20&sort=user_id").json()
    put({"u025": (777 * HOUR_S, 1)})
    second = report.get(first["next"]).json()["rows"]

    assert {"user_id": "u025", "avg_time_on_flyer_per_user_hours": 777.0} in second
    assert [f"u{number:03}" for number in range(20, 40)] == [row["user_id"] for row in second]


def test_a_merchants_pages_are_its_own(report: httpx2.Client, put: Put) -> None:
    """The same question of another view is another one."""
    put(USERS, {"m": {"a": (HOUR_S, 1), "b": (HOUR_S, 1)}, "n": {"a": (2 * HOUR_S, 1), "c": (HOUR_S, 1)}})
    pages = {name: report.get(f"/merchants/{name}?limit=1&sort=user_id").json() for name in ("m", "n")}
    following = {name: report.get(page["next"]).json()["rows"] for name, page in pages.items()}

    assert [1.0, 2.0] == [page["rows"][0]["avg_time_on_flyer_per_user_hours"] for page in pages.values()]
    assert ["b", "c"] == [rows[0]["user_id"] for rows in following.values()]


def stretch(rows: int, *, version: object = 1, whole: bool = False) -> Stretch:
    """Make rows from the beginning of a table on."""
    ids = [f"u{number:04}".encode() for number in range(rows)]
    return Stretch(
        version, None, UserRows(ids, [1] * rows, [1] * rows), [Position(None, name) for name in ids], whole
    )  # fmt: skip


def test_only_what_is_all_there_is_given_out() -> None:
    """Not what another version would give, nor from a place that is not kept, nor a part where there are more rows."""
    kept = KeptPages()
    kept.keep("q", stretch(10))

    found = kept.find("q", 1, Position(None, b"u0002"), 2)
    assert found is not None
    assert [b"u0003", b"u0004"] == [*found[0].ids]
    assert kept.find("q", 2, None, 2) is None
    assert kept.find("other", 1, None, 2) is None
    assert kept.find("q", 1, Position(None, b"x"), 2) is None
    assert kept.find("q", 1, Position(None, b"u0008"), 2) is None
    kept.keep("q", stretch(10, whole=True))
    found = kept.find("q", 1, Position(None, b"u0008"), 2)
    assert found is not None
    assert [b"u0009"] == [*found[0].ids]


def test_it_keeps_no_more_rows_than_it_may() -> None:
    """Those asked for longest ago make room; what is larger than all of it is not kept."""
    kept = KeptPages(most_rows=25)
    for question in ("a", "b"):
        kept.keep(question, stretch(10))
    assert kept.find("a", 1, None, 2) is not None
    kept.keep("c", stretch(10))
    kept.keep("d", stretch(30))

    assert [True, False, True, False] == [kept.find(each, 1, None, 2) is not None for each in "abcd"]
