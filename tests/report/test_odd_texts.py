"""Ids, paths and addresses of odd signs and of any length come through, or to nothing."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.report.readers import (
    ALL,
    HOUR_S,
    bearer,
)

if TYPE_CHECKING:
    import httpx2

    from tests.report.conftest import Put


@pytest.mark.parametrize(
    "path",
    [
        "/?limit=1&prefix=%0d%0aset-cookie:%20x=1",
        "/merchants/%0d%0aset-cookie:%20x=1?limit=1&format=csv",
        "/merchants/acme?limit=1&format=csv&prefix=%0d%0aset-cookie:x",
        "/users/%0d%0aset-cookie:%20x=1",
        "/users/" + "%00" * 50,
        "/users/%ff%fe",
        "/merchants/%ed%a0%80",
        "/?prefix=%00",
        "/?" + "&".join(f"x{number}=1" for number in range(1000)),
        "/?limit=1&after=" + "A" * 60_000,
    ],
)
def test_odd_requests_are_answered_and_set_no_header(filled: httpx2.Client, path: str) -> None:
    """Line ends, nulls, what is no UTF-8, and very much of it come to nothing."""
    answer = filled.get(path, headers=bearer(ALL))

    assert answer.status_code in {200, 400, 404, 431}
    assert "set-cookie" not in answer.headers
    assert "\r" not in answer.headers.get("link", "")


def test_a_next_link_goes_through_any_prefix(filled: httpx2.Client, put: Put) -> None:
    """Line ends and other signs of an address stay within their parameter, in the body and in the header."""
    odd = ["\r\nset-cookie: x", "\r\nset-cookie: y", "\r\nset-cookie: z"]
    put(dict.fromkeys(odd, (HOUR_S, 1)))
    body = filled.get("/", params={"limit": 2, "prefix": "\r\nset-cookie: "}, headers=bearer(ALL)).json()
    link = filled.get(
        "/", params={"limit": 2, "prefix": "\r\nset-cookie: ", "format": "ndjson"}, headers=bearer(ALL)
    ).headers["link"]
    rest = filled.get(body["next"], headers=bearer(ALL)).json()

    assert sorted(odd) == sorted(row["user_id"] for row in body["rows"] + rest["rows"])
    assert link == f'<{body["next"]}>; rel="next"'.replace("&after=", "&format=ndjson&after=")


def test_ids_of_any_length_and_alphabet_come_through(filled: httpx2.Client, put: Put) -> None:
    """In every format, and one by one."""
    ids = [
        "x" * 60_000,
        "\N{GRINNING FACE}" * 200,
        "\u2028\u0000\u007f",
        "e\u0301",
        "\u00e9",
        " ",
        "\\",
        '"',
        "a\tb\nc",
    ]
    put(None, {"odd": {name: (HOUR_S * (place + 1), 1) for place, name in enumerate(ids)}})
    for name in ("json", "ndjson", "arrow", "parquet"):
        answer = filled.get("/merchants/odd", params={"format": name, "sort": "hours"}, headers=bearer(ALL))
        assert ids == [row["user_id"] for row in rows_in(answer)]
    paged = filled.get("/merchants/odd?limit=1&sort=-hours", headers=bearer(ALL)).json()
    for wanted in reversed(ids):
        assert [wanted] == [row["user_id"] for row in paged["rows"]]
        paged = filled.get(paged["next"], headers=bearer(ALL)).json() if paged["next"] else None


def rows_in(answer: httpx2.Response) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    kind = answer.headers["content-type"].partition(";")[0]
    if kind == "application/json":
        rows: list[dict[str, Any]] = answer.json()
    elif kind == "application/x-ndjson":
        rows = [json.loads(line) for line in answer.text.split("\n")[:-1]]
    elif kind == "application/vnd.apache.arrow.stream":
        rows = pa.ipc.open_stream(answer.content).read_all().to_pylist()
    else:
        rows = pq.read_table(io.BytesIO(answer.content)).to_pylist()
    return rows
