"""RFC 3339 to microseconds and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core import timestamps
from functions.core.timestamps import format_us, parse_column_us, parse_us

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=OFFSETS))  # noqa: DTZ001  # with zones from there
def test_any_moment_in_any_offset_is_read_exactly(moment: datetime) -> None:
    """To the microsecond, before 1970 too."""
    assert (moment - EPOCH) // timedelta(microseconds=1) == parse_us(moment.isoformat())


@given(st.integers(-62_000_000_000_000_000, 250_000_000_000_000_000))
def test_what_is_written_is_read_back(moment_us: int) -> None:
    """Our own text is RFC 3339 in UTC."""
    assert moment_us == parse_us(format_us(moment_us))
    assert format_us(moment_us).endswith("Z")


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        pytest.param("2018-10-01T13:54:59-04:00", "2018-10-01T17:54:59Z", id="offset"),
        pytest.param("2018-10-01T17:54:59", "2018-10-01T17:54:59Z", id="no offset is UTC"),
        pytest.param("2018-10-01t17:54:59z", "2018-10-01T17:54:59Z", id="lower case"),
        pytest.param("2018-10-01 17:54:59Z", "2018-10-01T17:54:59Z", id="a space"),
        pytest.param("2018-10-01T17:54:59.1Z", "2018-10-01T17:54:59.100000Z", id="tenths"),
        pytest.param("2018-10-01T17:54:59.1234569Z", "2018-10-01T17:54:59.123456Z", id="cut off, not rounded"),
        pytest.param("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z", id="cut off before 1970"),
        pytest.param("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z", id="leap second"),
        pytest.param("2016-12-31T18:59:60.5-05:00", "2017-01-01T00:00:00.5Z", id="leap second with offset"),
        pytest.param("2018-10-01T17:54:59-00:00", "2018-10-01T17:54:59Z", id="unknown local offset"),
        pytest.param("2018-10-01T17:54:59+23:59", "2018-09-30T17:55:59Z", id="large offset"),
    ],
)
def test_all_forms_of_rfc_3339_are_read(text: str, same_as: str) -> None:
    """Each is the moment that it names."""
    assert parse_us(same_as) == parse_us(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "2018-10-01", "2018-10-01T13:54", "2018-10-01T13", "20181001T135459Z", "2018-W40-1T00:00:00Z",
        "2018-10-01T13:54:59,5Z", "2018-10-01T24:00:00Z", "2018-10-01T13:60:00Z", "2018-10-01T13:54:61Z",
        "2018-10-01T13:54:60Z", "2018-13-01T00:00:00Z", "2018-02-29T00:00:00Z", "0000-01-01T00:00:00Z",
        "2018-10-01T13:54:59+24:00", "2018-10-01T13:54:59+04", "2018-10-01T13:54:59+0400", "2018-10-01T13:54:59.Z",
        "2018-10-01T13:54:59 Z", " 2018-10-01T13:54:59Z", "2018-10-01T13:54:59Z\n", "1538400000",
        "-2018-10-01T13:54:59Z",
        "\uff12\uff10\uff11\uff18-10-01T13:54:59Z", "9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+01:00",
        "2018-10-01T13:54:59Europe/Berlin",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    """Dates, other ISO 8601 forms, moments that do not exist."""
    with pytest.raises(ValueError, match=r"."):
        parse_us(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else happens."""
    try:
        parse_us(text)
    except (ValueError, OverflowError):
        return


DAYS = st.sampled_from(["2018-10-01", "2018-13-01", "0000-01-01", "0001-01-01", "9999-12-31", "\uff12018-10-01"])
TIMES = st.sampled_from(["13:54", "13:55", "24:00", "23:59", "13:54:59", "1:54"])
RESTS = st.sampled_from(
    [":59Z", ":00.123Z", ":60Z", ":61Z", ".5Z", ":59.123456Z", ":59.1Z", ":59+01:00", ":59", "", ":59Z\n", ":59z"]
)
TEXTS = st.builds(lambda day, time, rest: f"{day}T{time}{rest}", DAYS, TIMES, RESTS)


@given(st.lists(st.sampled_from(["2018-10-01T13:54:59Z", "2018-10-01T13:54:00.123Z"]) | TEXTS, max_size=4))
def test_a_column_is_read_as_its_texts_are(texts: list[str]) -> None:
    """Or refused where one of them is, whatever was read before."""
    try:
        expected = [parse_us(text) for text in texts]
    except (ValueError, OverflowError):
        with pytest.raises((ValueError, OverflowError)):
            parse_column_us(texts)
    else:
        assert expected == parse_column_us(texts)


def test_many_minutes_are_read_and_few_of_them_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """History of many years takes no more memory than a fortnight."""
    monkeypatch.setattr(timestamps, "MAX_MINUTES", 10)
    for start in range(0, 1000, 10):
        moments_us = [minute * 60_000_000 for minute in range(start, start + 10)]
        assert moments_us == parse_column_us([format_us(moment_us) for moment_us in moments_us])
        assert len(timestamps.minutes_us) <= 20
