"""The reference number as DataFrame functions: events in, averages out, no input or output of their own.

The live fold (spark/folding.py) does the same by column and shard; this is for history on a file system, for notebooks,
and for holding the fold against.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyspark.sql import functions as F  # noqa: N812  # the name that every Spark user knows

from functions.core.events import FLYER_EVENTS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

AVERAGE_COLUMN: Final = "avg_time_on_flyer_per_user_hours"


def spans_of(events: DataFrame) -> DataFrame:
    """Return the span of each (user, flyer, merchant).

    Args:
        events: Columns timestamp (a timestamp, or text that Spark can cast to one), user_id, event, flyer_id and
            merchant_id; others are ignored. A row whose timestamp, user_id or flyer_id is null never pairs.

    Returns:
        Columns user_id, flyer_id, merchant_id (empty where it was null), first_at, last_at (timestamps) and events.
    """
    return (
        events.select("user_id", "event", "flyer_id", "merchant_id", F.col("timestamp").cast("timestamp").alias("at"))
        .where(
            F.col("event").isin(*FLYER_EVENTS)
            & F.col("at").isNotNull()
            & F.col("user_id").isNotNull()
            & F.col("flyer_id").isNotNull()
        )
        .groupBy("user_id", "flyer_id", F.coalesce("merchant_id", F.lit("")).alias("merchant_id"))
        .agg(F.min("at").alias("first_at"), F.max("at").alias("last_at"), F.count(F.lit(1)).alias("events"))
    )


def merge_spans(spans: DataFrame) -> DataFrame:
    """Return one span for each (user, flyer, merchant) from any number of partial ones: (min, max, +)."""
    return spans.groupBy("user_id", "flyer_id", "merchant_id").agg(
        F.min("first_at").alias("first_at"), F.max("last_at").alias("last_at"), F.sum("events").alias("events")
    )


def averages_of(spans: DataFrame) -> DataFrame:
    """Return each user's average time on flyer, over all merchants.

    Args:
        spans: As ``spans_of`` returns them.

    Returns:
        Columns user_id and avg_time_on_flyer_per_user_hours (two digits, rounded half up); a user without a pair of
        events on one flyer is absent.
    """
    flyers = spans.groupBy("user_id", "flyer_id").agg(
        F.min("first_at").alias("first_at"), F.max("last_at").alias("last_at"), F.sum("events").alias("events")
    )
    totals = flyers.groupBy("user_id").agg(
        F.sum(F.unix_timestamp("last_at") - F.unix_timestamp("first_at")).alias("seconds"),
        F.sum(F.col("events") - 1).alias("sessions"),
    )
    return totals.where(F.col("sessions") > 0).select(
        "user_id", F.round(F.col("seconds") / F.col("sessions") / 3600, 2).alias(AVERAGE_COLUMN)
    )


def compute_average_time_on_flyer_per_user(events: DataFrame) -> DataFrame:
    """Return the average time on flyer per user, equal to the reference algorithm and without its self join.

    Args:
        events: As ``spans_of`` takes them.

    Returns:
        As ``averages_of`` returns it.
    """
    return averages_of(spans_of(events))
