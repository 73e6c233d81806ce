"""The number: our plan and our plain Python against the reference algorithm, written out by the letter."""

from __future__ import annotations

import gc
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pyspark.sql import Window
from pyspark.sql import functions as F  # noqa: N812  # the name that every Spark user knows

from functions.core.events import Event
from spark.sources import LogSource
from spark.transforms import averages_of, compute_average_time_on_flyer_per_user, merge_spans, spans_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pyspark.sql import DataFrame, SparkSession

    from functions.core.settings import Settings

# PySpark leaves the sockets of each collect to the garbage collector.
pytestmark = [pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]

Rows = list[tuple[int | None, str | None, str | None, str | None, str | None]]
SCHEMA = "us long, user_id string, event string, flyer_id string, merchant_id string"


@pytest.fixture(autouse=True)
def _collected_here() -> Iterator[None]:
    """Have the sockets collected while their warnings are passed over."""
    yield
    gc.collect()


def reference(events: DataFrame) -> DataFrame:
    """The reference algorithm: number each user's events on a flyer by time, join each with the next, average."""
    numbered = events.where(F.col("event").isin("flyer_open", "flyer_close")).withColumn(
        "row", F.row_number().over(Window.partitionBy("user_id", "flyer_id").orderBy("timestamp"))
    )
    start, end = numbered.alias("start"), numbered.alias("end")
    durations = start.join(
        end,
        (F.col("start.user_id") == F.col("end.user_id"))
        & (F.col("start.flyer_id") == F.col("end.flyer_id"))
        & (F.col("start.row") + 1 == F.col("end.row")),
    ).select(
        F.col("start.user_id").alias("user_id"),
        (F.unix_timestamp("end.timestamp") - F.unix_timestamp("start.timestamp")).alias("duration"),
    )
    # A null timestamp sorts first and is joined with what follows: it has no duration, and sum and count pass over it.
    return (
        durations.groupBy("user_id")
        .agg((F.sum("duration") / F.count("duration")).alias("seconds"))
        .where(F.col("seconds").isNotNull())
        .select("user_id", F.round(F.col("seconds") / 3600, 2).alias("avg_time_on_flyer_per_user_hours"))
    )


def frame(spark: SparkSession, rows: Rows) -> DataFrame:
    """Return events with microseconds as a frame with timestamps."""
    return spark.createDataFrame(rows, SCHEMA).withColumn("timestamp", F.timestamp_micros("us")).drop("us")


def collected(averages: DataFrame) -> dict[str, float]:
    """Return a report as a dict."""
    return {row.user_id: row.avg_time_on_flyer_per_user_hours for row in averages.collect()}


def null_some(draw: Callable[[st.SearchStrategy[Any]], Any], events: list[Event], group: int) -> Rows:
    """Return rows of users of their own, some of whose fields are null."""
    rows: Rows = []
    for event in events:
        null = draw(st.sampled_from(["", "", "", "", "", "timestamp", "user", "event"]))
        rows.append((
            None if null == "timestamp" else event.timestamp_us,
            None if null == "user" else f"{group}{event.user_id}",
            None if null == "event" else event.event,
            event.flyer_id,
            event.merchant_id,
        ))  # fmt: skip
    return rows


@hypothesis_settings(max_examples=6, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])
@given(data=st.data())
def test_plan_and_plain_python_equal_the_reference(
    data: st.DataObject,
    spark: SparkSession,
    events_strategy: Callable[..., st.SearchStrategy[list[Event]]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
) -> None:
    """On events of every awkward kind, of a few hundred users at a time, whose ids tell the examples apart."""
    groups = data.draw(st.lists(events_strategy(), min_size=10, max_size=40))
    rows = [row for group, events in enumerate(groups) for row in null_some(data.draw, events, group)]
    events = frame(spark, rows).cache()
    expected = collected(reference(events))
    complete = [Event(*row) for row in rows if None not in row[:3]]  # type: ignore[arg-type]  # no nulls where none may be

    assert expected == collected(compute_average_time_on_flyer_per_user(events))
    assert expected == plain_report(complete)
    events.unpersist()


@pytest.mark.parametrize(
    ("seconds", "hours"), [([18], 0.01), ([17], 0.0), ([54], 0.02), ([5418], 1.51), ([1, 35], 0.01), ([0], 0.0)]
)
def test_half_hundredths_go_up(spark: SparkSession, seconds: list[int], hours: float) -> None:
    """At .005 of an hour, alone and as a mean."""
    moments = [0]
    for duration in seconds:
        moments.append(moments[-1] + duration)
    events = frame(spark, [(moment * 10**6, "u", "flyer_open", "f", None) for moment in moments])

    assert {"u": hours} == collected(reference(events)) == collected(compute_average_time_on_flyer_per_user(events))


def test_timestamps_may_be_text_with_offsets(spark: SparkSession) -> None:
    """As read from JSON: each with its own offset, fractions of seconds, and none for the session's time zone."""
    rows = [
        ("2018-10-01T13:54:59.900-04:00", "u", "flyer_open", "f", None),
        ("2018-10-01T18:54:59.100Z", "u", "flyer_close", "f", None),
    ]
    events = spark.createDataFrame(rows, SCHEMA.replace("us long", "timestamp string"))

    assert {"u": 1.0} == collected(compute_average_time_on_flyer_per_user(events))


def test_partial_spans_merge_into_those_of_all_events(spark: SparkSession) -> None:
    """History can be spanned part by part, in any order."""
    rows: Rows = [(number * 10**9, "u", "flyer_open", f"f{number % 2}", "m") for number in range(10)]
    parts = [spans_of(frame(spark, rows[start::3])) for start in range(3)]
    merged = merge_spans(parts[2].unionByName(parts[0]).unionByName(parts[1]))

    assert sorted(spans_of(frame(spark, rows)).collect()) == sorted(merged.collect())
    assert collected(reference(frame(spark, rows))) == collected(averages_of(merged))


def test_the_log_can_be_read_as_a_frame(
    spark: SparkSession,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
) -> None:
    """What is pending, event by event, nulls and all; the reference on it is what a fold will give."""
    events = [
        Event(-1, "u", "flyer_open", "f", None),
        Event(7_200_000_000, "u", "flyer_close", "f", "m"),
        Event(5, "ü", "shopping_list_open", None, ""),
    ]
    fill_log(settings, [events[:2], events[2:]])
    options = {"redis_url": settings.redis_url, "namespace": settings.namespace}
    monkeypatch.delitem(os.environ, "FLYERTIME_REDIS_URL", raising=False)
    spark.dataSource.register(LogSource)
    log = spark.read.format("flyertime_log").options(**options).load()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    expected = [(epoch + timedelta(microseconds=event[0]), *event[1:]) for event in events]

    found = log.select(F.unix_micros("timestamp").alias("us"), "user_id", "event", "flyer_id", "merchant_id").collect()
    assert sorted(events, key=str) == sorted((Event(*row) for row in found), key=str)
    assert len(expected) == len(found)
    assert plain_report(events) == collected(reference(log)) == {"u": 2.0}
