"""Tables over HTTP: merchants, filters, order, pages, formats, and how fresh they are."""

from __future__ import annotations

import csv
import io
import json
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from functions.core.report_columns import MERCHANT_COLUMNS, USER_COLUMNS
from functions.core.shards import shard_of
from functions.core.timestamps import format_us

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.report.conftest import Put

SHARDS = 4
HOUR_S = 3600
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIELD = "avg_time_on_flyer_per_user_hours"


def pages(report: httpx2.Client, url: str) -> Iterator[dict[str, Any]]:
    """Follow the next links of a table in pages."""
    following: str | None = url
    while following is not None:
        body = report.get(following).raise_for_status().json()
        yield body
        following = body["next"]


def ids(rows: list[dict[str, Any]]) -> list[str]:
    """Return the users of rows."""
    return [row["user_id"] for row in rows]


def test_a_merchant_has_the_averages_of_its_own_flyers(report: httpx2.Client, put: Put) -> None:
    """Not of the others', and one that nobody has seen is a 404."""
    put(
        {"a": (3 * HOUR_S, 2), "b": (HOUR_S, 1)}, {"m/1": {"a": (HOUR_S, 1)}, "m2": {"a": (2 * HOUR_S, 1), "b": (1, 1)}}
    )

    assert [{"user_id": "a", FIELD: 1.0}] == report.get("/merchants/m%2F1").json()
    assert {"a", "b"} == set(ids(report.get("/merchants/m2").json()))
    assert (404, "no_such_merchant") == ((r := report.get("/merchants/m")).status_code, r.json()["code"])


def test_merchants_stand_side_by_side(report: httpx2.Client, put: Put) -> None:
    """Each with its users, sessions, seconds and average, in the order of their ids."""
    put({"a": (3 * HOUR_S, 2)}, {"z": {"a": (HOUR_S, 1), "b": (HOUR_S, 3)}, "m": {"a": (2 * HOUR_S, 1)}})

    assert [("m", 1, 1, 7200, 2.0), ("z", 2, 4, 7200, 0.5)] == [
        (row["merchant_id"], row["users"], row["sessions"], row["total_seconds"], row["avg_time_on_flyer_hours"])
        for row in report.get("/merchants").json()
    ]


def test_a_merchant_that_changes_changes_in_the_table(report: httpx2.Client, put: Put) -> None:
    """What is kept of a shard is not shown once the shard has changed."""
    put(None, {"m": {"a": (HOUR_S, 1)}})
    before = report.get("/merchants")
    put(None, {"m": {"a": (3 * HOUR_S, 1)}})
    after = report.get("/merchants", headers={"if-none-match": before.headers["etag"]})

    assert [1.0, 3.0] == [answer.json()[0]["avg_time_on_flyer_hours"] for answer in (before, after)]
    assert 304 == report.get("/merchants", headers={"if-none-match": after.headers["etag"]}).status_code


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("min_sessions=3", "cd"),
        ("min_hours=0.5", "ab"),
        ("max_hours=0.5", "bcd"),
        ("min_hours=0.25&max_hours=0.5", "bc"),
        ("min_hours=0.251&max_hours=0.509", "b"),
        ("prefix=c", "c"),
        ("prefix=%C3%BC", ""),
        ("sort=user_id", "abcd"),
        ("sort=-user_id", "dcba"),
        ("sort=hours", "dcba"),
        ("sort=-hours&min_sessions=2", "bcd"),
        ("sort=sessions", "abcd"),
        ("sort=total_seconds", "dabc"),
        ("sort=-avg_open_to_close_hours", "abcd"),
    ],
)
def test_filters_and_orders(report: httpx2.Client, put: Put, query: str, wanted: str) -> None:
    """Bounds are inclusive; among equals users come by id; who has no value comes last."""
    put(a=(HOUR_S, 1), b=(HOUR_S, 2), c=(HOUR_S, 4), d=(0, 9))
    answer = report.get(f"/?{query}")

    found = ids(answer.json())
    assert list(wanted) == (found if "sort" in query else sorted(found))


@pytest.mark.parametrize("limit", ["", "&limit=2", "&limit=50"])
def test_who_has_no_value_comes_last_in_either_order(report: httpx2.Client, put: Put, limit: str) -> None:
    """By id among themselves, and on whatever page they are."""
    closes = {"a": (0, 0), "b": (2 * HOUR_S, 1), "c": (0, 0), "d": (HOUR_S, 1), "e": (0, 0)}
    put({name: (9 * HOUR_S, 2, 0, 1, *closed, 0) for name, closed in closes.items()})

    for sort, wanted in (("avg_open_to_close_hours", "dbace"), ("-avg_open_to_close_hours", "bdace")):
        url = f"/?sort={sort}{limit}"
        rows = [row for page in pages(report, url) for row in page["rows"]] if limit else report.get(url).json()
        assert list(wanted) == ids(rows)


def test_fields_choose_the_columns(report: httpx2.Client, put: Put) -> None:
    """In the order in which they are asked for; ``all`` is all of them."""
    put(a=(HOUR_S, 2))

    assert [{"sessions": 2, "user_id": "a"}] == report.get("/?fields=sessions,user_id").json()
    assert ["user_id", FIELD, "sessions", "total_seconds", "first_seen", "last_seen", "avg_open_to_close_hours",
            "closed_sessions", "unclosed_opens"] == [*report.get("/?fields=all").json()[0]]  # fmt: skip
    assert {"total_seconds": 3600} == report.get("/users/a?fields=total_seconds").json()


@pytest.mark.parametrize("sort", ["", "&sort=user_id", "&sort=-user_id", "&sort=-hours", "&sort=sessions"])
def test_pages_hold_every_user_once(report: httpx2.Client, put: Put, sort: str) -> None:
    """Each page but the last has as many rows as were asked for."""
    chance = random.Random(7)
    users = {f"u{number}": (chance.randrange(9) * HOUR_S, chance.randrange(1, 4)) for number in range(103)}
    put(users)
    read = [page["rows"] for page in pages(report, f"/?limit=10{sort}")]

    assert [10] * 10 + [3] == [len(rows) for rows in read]
    together = [row for rows in read for row in rows]
    assert report.get(f"/?{sort[1:]}").json() == together
    assert sorted(users) == sorted(ids(together))


def test_the_next_link_keeps_the_question_and_not_the_key(report: httpx2.Client, put: Put) -> None:
    """It is relative to the host, and stands in the body; a Link header says the same where the body is no object."""
    put(None, {"m 1": dict.fromkeys("abc", (HOUR_S, 1))})
    body = report.get("/merchants/m%201?limit=2&min_hours=0.5&fields=user_id&sort=hours&key=secret").json()

    assert body["next"].startswith("/merchants/m%201?limit=2&min_hours=0.5&fields=user_id&sort=hours&after=")
    assert [{"user_id": "c"}] == report.get(body["next"]).json()["rows"]
    assert 'rel="next"' in report.get("/merchants/m%201?limit=2&format=csv").headers["link"]
    assert "link" not in report.get("/merchants/m%201?limit=3&format=csv").headers


@pytest.mark.parametrize("sort", ["", "&sort=user_id", "&sort=-user_id"])
@pytest.mark.parametrize("table", ["/?limit=7", "/merchants/m?limit=7", "/merchants/m?limit=7&prefix=u&min_sessions=1"])
def test_pages_are_complete_while_runs_commit(report: httpx2.Client, put: Put, table: str, sort: str) -> None:
    """By id, whatever is committed between two pages: nobody comes twice, and who was there at first is not missed."""
    chance = random.Random(8)
    first = {f"u{number}": (HOUR_S, 1) for number in range(120)}
    put(first, {"m": first})
    read: list[str] = []
    for number, page in enumerate(pages(report, table + sort)):
        read += ids(page["rows"])
        more = {f"n{chance.random()}": (1, 1), f"u{chance.randrange(120)}": (number * HOUR_S, 2)}
        put(more, {"m": more})
    assert len(read) == len(set(read))
    assert set(first) <= set(read)


def test_pages_by_a_number_hold_who_does_not_change_once(report: httpx2.Client, put: Put) -> None:
    """Others move while they are read, so they may be on two pages or on none."""
    still = {f"s{number}": (number * 600, 1) for number in range(60)}
    moving = {f"m{number}": (number * 600, 1) for number in range(60)}
    put({**still, **moving})
    chance = random.Random(9)
    read: list[str] = []
    for page in pages(report, "/?limit=9&sort=-hours"):
        read += ids(page["rows"])
        put({f"m{chance.randrange(60)}": (chance.randrange(40_000), 1) for _ in range(5)})

    assert sorted(still) == sorted(name for name in read if name.startswith("s"))


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=-1", "limit=x", "limit=50001", "limit=", "min_sessions=1.5", "min_hours=abc", "max_hours=nan",
        "sort=nothing", "sort=--hours", "fields=", "fields=user_id,user_id", "fields=secret", "format=xml", "after=abc",
        "limit=5&limit=6", "nonsense=1", "Limit=5", "limit=5&after=abc", "limit=5&after=%00", "prefix=%ff",
        "limit=%D9%A3",
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_refused(report: httpx2.Client, query: str) -> None:
    """With a 400 that says what would be right."""
    answer = report.get(f"/?{query}")

    assert (400, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert answer.json()["code"] in {
        "bad_parameter", "bad_query", "bad_cursor", "unknown_parameter", "repeated_parameter",
    }  # fmt: skip


def test_an_unknown_parameter_is_told_the_known_ones(report: httpx2.Client) -> None:
    """A mistyped filter would otherwise show everything."""
    assert "min_sessions" in report.get("/?min_session=3").json()["detail"]


def test_a_cursor_fits_its_own_question_alone(report: httpx2.Client, put: Put) -> None:
    """Changed by one character, or brought to another order, filter or merchant, it is refused."""
    put({f"u{number}": (HOUR_S, 1) for number in range(9)}, {"m": {f"u{number}": (HOUR_S, 1) for number in range(9)}})
    after = report.get("/?limit=3").json()["next"].partition("after=")[2]

    assert 200 == report.get(f"/?limit=4&after={after}").status_code
    other = [
        f"/?limit=3&sort=hours&after={after}",
        f"/?limit=3&prefix=u&after={after}",
        f"/merchants/m?limit=3&after={after}",
    ]
    for place in range(len(after)):
        changed = "A" if after[place] != "A" else "B"
        other.append(f"/?limit=3&after={after[:place]}{changed}{after[place + 1 :]}")
    for url in other:
        answer = report.get(url)
        same = answer.status_code == 200 and answer.content == report.get(f"/?limit=3&after={after}").content
        assert same or (400, "bad_cursor") == (answer.status_code, answer.json()["code"]), url


def read_rows(answer: httpx2.Response) -> list[dict[str, Any]]:
    """Read a table by its content type, with each format's own reader."""
    if answer.headers.get("content-encoding") == "zstd":  # which the client does not know
        with zstandard.ZstdDecompressor().stream_reader(answer.content) as unpacked:
            answer = httpx2.Response(
                200, headers={"content-type": answer.headers["content-type"]}, content=unpacked.read()
            )
    kind = answer.headers["content-type"].partition(";")[0]
    if kind == "application/json":
        rows: list[dict[str, Any]] = answer.json()
    elif kind == "application/x-ndjson":
        rows = [json.loads(line) for line in answer.text.splitlines()]
    elif kind == "text/csv":
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    elif kind == "application/vnd.apache.arrow.stream":
        rows = as_json(pa.ipc.open_stream(answer.content).read_all())
    else:
        rows = as_json(pq.read_table(io.BytesIO(answer.content)))
    return rows


def as_json(table: pa.Table) -> list[dict[str, Any]]:
    """Return rows with moments as JSON has them."""
    return [
        {
            name: format_us((value - EPOCH) // timedelta(microseconds=1)) if isinstance(value, datetime) else value
            for name, value in row.items()
        }
        for row in table.to_pylist()
    ]


FORMATS = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}


@pytest.mark.parametrize("coding", ["identity", "gzip", "zstd"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_the_same_rows(report: httpx2.Client, put: Put, name: str, coding: str) -> None:
    """By name or by ``Accept``, packed or not, for a table that is sent in pieces too."""
    put({f"user-{number:05}": (number, 1 + number % 7) for number in range(9_000)})
    wanted = report.get("/?fields=all").json()
    for url, accept in ((f"/?fields=all&format={name}", "*/*"), ("/?fields=all", FORMATS[name])):
        answer = report.get(url, headers={"accept": accept, "accept-encoding": coding})
        rows = read_rows(answer)

        assert FORMATS[name] == answer.headers["content-type"].partition(";")[0]
        assert answer.headers.get("content-encoding", "identity") == ("identity" if name == "parquet" else coding)
        if name == "csv":
            assert [{key: "" if v is None else str(v) for key, v in row.items()} for row in wanted] == rows
        else:
            assert wanted == rows


def schema_of(answer: httpx2.Response) -> list[tuple[str, str]]:
    """Return columns by name and type, as a format has them that says them."""
    kind = answer.headers["content-type"].partition(";")[0]
    if kind == "text/csv":
        return [(name, "") for name in answer.text.partition("\r\n")[0].split(",")]
    arrow = kind == "application/vnd.apache.arrow.stream"
    schema = pa.ipc.open_stream(answer.content).schema if arrow else pq.read_schema(io.BytesIO(answer.content))
    return [(field.name, str(field.type)) for field in schema]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("path", "query"),
    [("/", ""), ("/", "fields=all"), ("/", "fields=all&limit=5"), ("/", "fields=all&sort=-hours"), ("/merchants", "")],
)
def test_an_empty_table_has_the_columns_too(report: httpx2.Client, put: Put, name: str, path: str, query: str) -> None:
    """So that who reads it on a schedule has one schema, by names and by types, whether or not there are rows."""
    empty = report.get(f"{path}?{query}&format={name}")
    put({"a": (HOUR_S, 2)}, {"m": {"a": (HOUR_S, 2)}})
    filled = report.get(f"{path}?{query}&format={name}")
    columns = (MERCHANT_COLUMNS if path == "/merchants" else USER_COLUMNS)[: None if query or path != "/" else 2]

    if name == "json":
        assert [] == (empty.json()["rows"] if "limit" in query else empty.json())
    elif name == "ndjson":
        assert b"" == empty.content
    else:
        assert [] == read_rows(empty)
        assert schema_of(empty) == schema_of(filled)
        assert [column.name for column in columns] == [name for name, _ in schema_of(empty)]


@pytest.mark.parametrize("name", FORMATS)
def test_a_filter_that_leaves_nobody_leaves_the_columns(report: httpx2.Client, put: Put, name: str) -> None:
    """Also of a merchant's table, and where slices of a large one come to nothing."""
    put({}, {"m": {f"u{number}": (HOUR_S, 2) for number in range(5_000)}})
    none = report.get(f"/merchants/m?fields=all&min_sessions=3&format={name}")

    assert [] == read_rows(none)
    if name not in {"json", "ndjson"}:
        assert [column.name for column in USER_COLUMNS] == [name for name, _ in schema_of(none)]


def test_who_takes_no_format_that_there_is_is_told(report: httpx2.Client) -> None:
    """With a 406; what a browser or a library sends is taken."""
    assert 406 == report.get("/", headers={"accept": "image/png"}).status_code
    for accept in ("application/json;q=0", "text/*, text/csv;q=0", "*/*;q=0"):
        assert 406 == report.get("/?fields=user_id", headers={"accept": accept}).status_code, accept
    for accept in ("*/*", "text/csv;q=0.1, application/json", "application/*", "", "image/png, */*;q=0.1"):
        assert "application/json" == report.get("/", headers={"accept": accept}).headers["content-type"]


def test_a_spreadsheet_calculates_nothing_in_csv(report: httpx2.Client, put: Put) -> None:
    """What would begin a formula begins with an apostrophe; quotes, commas and line ends stay within their field."""
    users = {'=cmd|"/C calc"!A0': 1, "+1": 2, "-1": 3, "@sum": 4, "\tx": 5, "a,b": 6, 'say "x"': 7, "two\r\nlines": 8,
             "": 9, "ünï": 10, "\N{FULLWIDTH EQUALS SIGN}1": 11}  # fmt: skip
    put({user: (HOUR_S, sessions) for user, sessions in users.items()})
    answer = report.get("/?format=csv&fields=user_id,sessions")
    rows = {row["user_id"]: int(row["sessions"]) for row in read_rows(answer)}

    assert {("'" + user if user[:1] in "=+-@\t\N{FULLWIDTH EQUALS SIGN}" and user else user): count
            for user, count in users.items()} == rows  # fmt: skip
    assert answer.content.endswith(b"\r\n")
    assert b'\r\n"",9\r\n' in answer.content, "a text, if an empty one: no value at all has no quotes"
    unknown = report.get("/?format=csv&fields=user_id,avg_open_to_close_hours&prefix=a").content
    assert unknown.endswith(b'"a,b",\r\n')


def test_a_summary_says_how_users_are_spread(report: httpx2.Client, put: Put) -> None:
    """Users, sessions, mean, exact percentiles, and a histogram that holds every user once."""
    put({f"u{number}": (number * 36, 1) for number in range(1, 101)}, {"m": {"u1": (36, 1)}})
    body = report.get("/summary").json()

    assert (100, 100, 0.505) == (body["users"], body["sessions"], body["mean_hours"])
    assert {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99} == body["percentiles"]
    assert 100 == sum(bucket["users"] for bucket in body["histogram"])
    assert 1 == report.get("/merchants/m/summary").json()["users"]
    assert {"accepted": 0, "duplicate": 0, "folded": 0, "erased": 0, "pending": 0} == body["ledger"]


def test_an_empty_summary_has_the_same_members(report: httpx2.Client, put: Put) -> None:
    """So that a panel shows nothing rather than an error."""
    empty = report.get("/summary").json()
    put(a=(HOUR_S, 1))

    assert empty.keys() == report.get("/summary").json().keys()
    assert (0, 0, None) == (empty["users"], empty["sessions"], empty["mean_hours"])


def test_shards_are_those_of_the_tests() -> None:
    """The tests above rely on users in several shards."""
    assert 1 < len({shard_of(name, SHARDS) for name in "abcd"})
