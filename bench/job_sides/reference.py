"""The reference algorithm: from a running Spark and a folder of NDJSON or Parquet to the averages in the driver."""

from __future__ import annotations

import json
import sys
import time

from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812  # the name that every Spark user knows

from bench.job_sides.process_tree import cpu_s
from bench.job_sides.spark_settings import OF_REFERENCE


def main() -> None:
    """Run, and print the seconds and the number of users."""
    spark = SparkSession.builder.config(map=dict(OF_REFERENCE)).getOrCreate()
    cpu_before_s = cpu_s()
    started_s = time.monotonic()
    schema = "timestamp timestamp, user_id string, event string, flyer_id string, merchant_id string"
    kind, folder = sys.argv[1:]
    read = spark.read.schema(schema).json(folder) if kind == "json" else spark.read.parquet(folder)
    events = read.where(F.col("event").isin("flyer_open", "flyer_close"))
    ordered = events.withColumn(
        "n", F.row_number().over(Window.partitionBy("user_id", "flyer_id").orderBy("timestamp"))
    ).select("user_id", "flyer_id", "timestamp", "n")
    start, end = ordered.alias("start"), ordered.alias("end")
    pairs = start.join(
        end,
        (F.col("start.user_id") == F.col("end.user_id"))
        & (F.col("start.flyer_id") == F.col("end.flyer_id"))
        & (F.col("start.n") + 1 == F.col("end.n")),
    ).select(
        F.col("start.user_id").alias("user_id"),
        (F.unix_timestamp("end.timestamp") - F.unix_timestamp("start.timestamp")).alias("duration"),
    )
    averages = pairs.groupBy("user_id").agg(
        F.round(F.sum("duration") / F.count("duration") / 3600, 2).alias("avg_time_on_flyer_per_user_hours")
    )
    rows = averages.collect()
    seconds = time.monotonic() - started_s
    took_cpu_s = cpu_s() - cpu_before_s
    spark.stop()
    print(
        json.dumps({"seconds": seconds, "cpu_s": took_cpu_s, "users": len(rows), "hours": sum(row[1] for row in rows)})
    )


main()
