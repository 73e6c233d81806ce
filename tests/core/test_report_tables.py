"""The pure parts of the report's tables: numbers, texts, questions, cursors, negotiation, summaries."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.core.errors import RequestRefusedError
from functions.core.negotiation import preferred_coding, preferred_type
from functions.core.report_columns import USER_COLUMNS
from functions.core.report_cursor import Position, read_cursor, write_cursor
from functions.core.report_query import Filters, parameters_of, table_query
from functions.core.report_rows import UserRows, hundredths_of, joined, rows_of_users
from functions.core.report_summary import Summary
from functions.core.report_texts import Csv, JsonArray, JsonLines, text_by_id
from functions.core.spans import Totals, average_hours, pack_totals
from functions.core.timestamps import format_us

IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MOMENTS = st.integers(-(10**15), 4 * 10**15)
FORMAT_1 = b"\x01" + (7200).to_bytes(8, "little") + (2).to_bytes(8, "little")
FORMAT_2 = b"\x02" + b"".join(number.to_bytes(size, "little") for number, size in ((7200, 8), (1, 4), (7, 8), (9, 24)))


@st.composite
def totals(draw: st.DrawFn) -> Totals:
    """Draw a user's totals, with sessions or without, with closes or without."""
    first_us, last_us = sorted((draw(MOMENTS), draw(MOMENTS)))
    closed = draw(st.booleans())
    return Totals(
        draw(st.integers(0, 10**9)),
        draw(st.integers(0, 10**6)),
        first_us,
        last_us,
        draw(st.integers(0, 10**9)) if closed else None,
        draw(st.integers(0, 10**6)) if closed else None,
        draw(st.integers(0, 10**6)) if closed else None,
    )


USERS = st.dictionaries(IDS, totals(), max_size=9)


def rows_of(users: dict[str, Totals]) -> UserRows:
    """Return users as the report holds them."""
    return rows_of_users([name.encode() for name in users], [pack_totals(each) for each in users.values()])


def wanted_rows(users: dict[str, Totals]) -> list[dict[str, object]]:
    """Return what a table shows of users, one by one and plainly."""
    return [
        {
            "user_id": name,
            "avg_time_on_flyer_per_user_hours": average_hours(each.seconds, each.sessions),
            "sessions": each.sessions,
            "total_seconds": each.seconds,
            "first_seen": None if each.first_us is None else format_us(each.first_us),
            "last_seen": None if each.last_us is None else format_us(each.last_us),
            "avg_open_to_close_hours": average_hours(each.closed_seconds, each.closed_sessions)
            if each.closed_seconds is not None and each.closed_sessions
            else None,
            "closed_sessions": each.closed_sessions,
            "unclosed_opens": each.unclosed,
        }
        for name, each in users.items()
        if each.sessions
    ]


@given(st.integers(0, 10**12), st.integers(1, 4 * 10**9))
@example(18, 1)
@example(9, 2)
@example(90, 7)
@example(10**12, 1)
def test_hundredths_are_rounded_as_the_number_is(seconds: int, sessions: int) -> None:
    """As Spark rounds doubles, halves included."""
    assert average_hours(seconds, sessions) == hundredths_of((seconds,), (sessions,))[0] / 100


@given(st.integers(0, 10**6), st.integers(1, 10**4))
def test_halves_are_rounded_as_the_number_is(half_hundredths: int, sessions: int) -> None:
    """Averages that lie exactly between two hundredths, where a double's text decides."""
    seconds = 18 * (2 * half_hundredths + 1) * sessions

    assert average_hours(seconds, sessions) == hundredths_of((seconds,), (sessions,))[0] / 100


@given(USERS)
def test_every_text_format_says_the_same(users: dict[str, Totals]) -> None:
    """JSON, JSON a line and CSV are read back as what was put in, whatever the ids are made of."""
    rows, wanted = rows_of(users), wanted_rows(users)
    columns = [rows.column(column.name) for column in USER_COLUMNS] if len(rows) else None

    def whole(encoder: JsonArray | JsonLines | Csv) -> str:
        return b"".join((encoder.begin(), encoder.rows(columns) if columns else b"", encoder.end())).decode()

    assert wanted == json.loads(whole(JsonArray(USER_COLUMNS)))
    assert wanted == [json.loads(line) for line in whole(JsonLines(USER_COLUMNS)).split("\n")[:-1]]
    read = list(csv.DictReader(io.StringIO(whole(Csv(USER_COLUMNS)), newline=""), strict=True))
    assert [{name: "" if v is None else str(v) for name, v in row.items() if name != "user_id"} for row in wanted] == [
        {name: value for name, value in row.items() if name != "user_id"} for row in read
    ]
    for row, shown in zip(wanted, read, strict=True):
        assert shown["user_id"] in {row["user_id"], f"'{row['user_id']}"}
        assert shown["user_id"][:1] not in set("=+-@\t\r\n\0\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}")


@given(
    st.one_of(
        st.sets(st.text("09AZaz", min_size=1, max_size=3), min_size=1),
        st.sets(st.text('!-,a"', min_size=2, max_size=2), min_size=1),
        st.sets(IDS, min_size=1, max_size=9),
    ),
    totals(),
)
@example({"1", "10", "1Z", "a", ""}, Totals(7, 1, 0, 0))
@example({"a!", "a", "ab"}, Totals(7, 1, 0, 0))  # what stands behind an id is more than an exclamation mark
def test_texts_that_are_put_in_order_are_those_of_ids_in_order(names: set[str], each: Totals) -> None:
    """Where they can be; then they are what they would be otherwise."""
    users = {name: each._replace(seconds=36 * number, sessions=1) for number, name in enumerate(names)}
    rows = rows_of({name: users[name] for name in sorted(users, key=str.encode)})
    for kind in (JsonArray, JsonLines, Csv):
        encoder = kind(USER_COLUMNS[:2])
        text = text_by_id(encoder, rows_of(users).ids, rows_of(users).hundredths())

        assert text in {None, encoder.text([rows.ids, rows.hundredths()])}
        if "".join(names).isascii() and "".join(names).isalnum() and all(names):
            assert text is not None
        if len({*map(len, rows.ids)}) == 1 and all(rows.ids):
            starts = b"".join(name[:1] for name in rows_of(users).ids)
            assert text == text_by_id(encoder, rows_of(users).ids, rows_of(users).hundredths(), starts)


@given(st.lists(USERS, max_size=4))
def test_slices_together_are_one_array(slices: list[dict[str, Totals]]) -> None:
    """Wherever the cuts are, and where a slice is empty."""
    encoder = JsonArray(USER_COLUMNS[:1])
    text = encoder.begin() + b"".join(encoder.rows([rows_of(users).ids]) for users in slices) + encoder.end()
    ids = [name for users in slices for name, each in users.items() if each.sessions]

    assert ids == [row["user_id"] for row in json.loads(text)]
    assert ids == [name.decode() for name in joined([rows_of(users) for users in slices]).ids]


def test_an_older_format_has_what_it_had() -> None:
    """Beside newer ones in one shard; what it does not say is null."""
    newer = pack_totals(Totals(3600, 1, 5, 6))
    rows = rows_of_users([b"1", b"2", b"3", b"none"], [FORMAT_1, FORMAT_2, newer, pack_totals(Totals(0, 0, 5, 5))])

    assert ([b"1", b"2", b"3"], [100, 200, 100], [None, 7, 5]) == (
        [*rows.ids], [*rows.hundredths()], [*rows.first_us],
    )  # fmt: skip
    with pytest.raises(ValueError, match="format"):
        rows_of_users([b"x"], [b"\x09" + newer[1:]])


@given(USERS, st.integers(0, 9), st.decimals(0, 50, places=3), st.decimals(0, 50, places=3), IDS)
def test_filters_let_through_what_they_say(
    users: dict[str, Totals], least: int, low: Decimal, high: Decimal, prefix: str
) -> None:
    """By the numbers as they are shown, bounds included."""
    shown = {
        str(row["user_id"])
        for row in wanted_rows(users)
        if Totals(*users[str(row["user_id"])]).sessions >= least
        and low <= Decimal(str(row["avg_time_on_flyer_per_user_hours"])) <= high
        and str(row["user_id"]).startswith(prefix)
    }

    assert shown == {name.decode() for name in Filters(least, low, high, prefix).of(rows_of(users)).ids}


@given(st.one_of(st.none(), st.integers(-(2**62), 2**62)), st.binary(max_size=99), st.text(max_size=20))
def test_a_cursor_is_read_back_for_its_own_question_alone(value: int | None, user_id: bytes, question: str) -> None:
    """And with its own secret."""
    position = Position(value, user_id)
    text = write_cursor(position, question, b"s")

    assert position == read_cursor(text, question, b"s")
    for other_question, other_secret in ((question + "x", b"s"), (question, b"t")):
        with pytest.raises(RequestRefusedError):
            read_cursor(text, other_question, other_secret)


@given(st.text(max_size=60))
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """With the one error, whatever it is made of."""
    with pytest.raises(RequestRefusedError) as refused:
        read_cursor(text, "q", b"s")

    assert "bad_cursor" == refused.value.code


@given(st.lists(st.tuples(st.sampled_from(["limit", "min_hours", "sort", "fields", "prefix", "after"]), st.text())))
def test_any_question_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    """Nothing else comes of whatever stands in a query."""
    query = None
    with suppress(RequestRefusedError):
        query = table_query(parameters_of(pairs, ("limit", "min_hours", "sort", "fields", "prefix", "after")))

    assert query is None or query.limit is None or 1 <= query.limit <= 50_000


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, "a/json"), ("", "a/json"), ("*/*", "a/json"), ("b/csv", "b/csv"), ("a/*;q=0.5, b/csv;q=0.6", "b/csv"),
        ("a/json;q=0, */*;q=0.1", "b/csv"), ("B/CSV", "b/csv"), ("x/y", None), ("b/csv;q=nonsense", "b/csv"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "a/json"), ("a/json;q=0.3,b/csv;q=0.30", "a/json"),
        ("a/json; charset=utf-8", "a/json"), (";;,,", "a/json"),
    ],
)  # fmt: skip
def test_the_format_is_the_one_liked_best(accept: str | None, wanted: str | None) -> None:
    """RFC 9110 §12.5.1: by quality, then by our own order; the most specific range counts."""
    assert wanted == preferred_type(accept, ("a/json", "b/csv"))


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, None), ("", None), ("identity", None), ("gzip", "gzip"), ("gzip, zstd", "zstd"), ("br", None),
        ("zstd;q=0.5, gzip", "gzip"), ("gzip;q=0", None), ("*", "zstd"), ("*;q=0", None), ("x-gzip", "gzip"),
        ("identity, gzip;q=0.5", None), ("GZIP", "gzip"), ("zstd;q=0, *", "gzip"),
    ],
)  # fmt: skip
def test_the_coding_is_the_one_liked_best(accept: str | None, wanted: str | None) -> None:
    """RFC 9110 §12.5.3; who says nothing gets none."""
    assert wanted == preferred_coding(accept, ("zstd", "gzip"))


@given(st.lists(USERS, max_size=3))
def test_parts_of_a_summary_add_up(slices: list[dict[str, Totals]]) -> None:
    """Shards are summed up one by one; percentiles are those of all users together."""
    whole, parts = Summary(), Summary()
    for users in slices:
        part = Summary()
        part.add(rows_of(users))
        parts.merge(part)
        whole.add(rows_of(users))
    rows = [row for users in slices for row in wanted_rows(users)]
    averages = sorted(float(str(row["avg_time_on_flyer_per_user_hours"])) for row in rows)
    shown = parts.shown()

    assert whole.shown() == shown
    assert len(averages) == shown["users"] == sum(bucket["users"] for bucket in shown["histogram"])
    if averages:
        middle = averages[-(-len(averages) // 2) - 1]
        assert shown["percentiles"]["p50"] == middle or middle >= 1000


@given(USERS, USERS)
def test_users_can_be_taken_out_of_a_summary_again(users: dict[str, Totals], others: dict[str, Totals]) -> None:
    """What is left is that of the rest; of a summary that they are not in there is nothing to be taken."""
    some, rest, whole = Summary(), Summary(), Summary()
    some.add(rows_of(users))
    rest.add(rows_of(others))
    whole.merge(some)
    whole.merge(rest)

    assert rest == whole.without(some)
    assert 0 not in (whole.without(some) or Summary()).hundredths.values()
    assert (rest.without(whole) is None) == (some.users > 0)


@pytest.mark.parametrize(
    "other",
    [
        Summary(users=1, sessions=1, seconds=5, hundredths=Counter({6: 1})),
        Summary(users=2, sessions=2, seconds=5, hundredths=Counter({5: 2})),
        Summary(users=1, sessions=3, seconds=5, hundredths=Counter({5: 1})),
        Summary(users=1, sessions=1, seconds=11, hundredths=Counter({5: 1})),
        Summary(users=1, sessions=1, seconds=5, hundredths=Counter({5: 1}), not_kept_users=1),
    ],
)
def test_what_is_no_part_of_a_summary_is_not_taken_out(other: Summary) -> None:
    """By its averages, or by any of its sums."""
    whole = Summary(users=2, sessions=2, seconds=10, hundredths=Counter({5: 1, 7: 1}))

    assert whole.without(other) is None
    assert Summary(1, 1, 5, hundredths=Counter({7: 1})) == whole.without(Summary(1, 1, 5, hundredths=Counter({5: 1})))


@given(USERS, st.integers(2, 6))
def test_no_group_is_smaller_than_it_may_be(users: dict[str, Totals], least: int) -> None:
    """Neither the whole nor a bucket; all users are in some bucket."""
    summary = Summary()
    summary.add(rows_of(users))
    shown = summary.shown(least)

    assert shown["users"] in {0, None} or shown["users"] >= least
    assert all(bucket["users"] >= least for bucket in shown["histogram"])
    assert (shown["users"] or 0) == sum(bucket["users"] for bucket in shown["histogram"])
