"""The telescoped number as a Spark plan over a folder of Parquet: what history on a file system takes."""

from __future__ import annotations

import json
import sys
import time

from pyspark.sql import SparkSession

from bench.job_sides.process_tree import cpu_s
from spark.transforms import compute_average_time_on_flyer_per_user


def main() -> None:
    """Run, and print the seconds, the number of users and the sum of their averages."""
    spark = (
        SparkSession.builder.master("local[*]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.memory", "6g")
        .config("spark.sql.shuffle.partitions", "8")
        .getOrCreate()
    )
    cpu_before_s = cpu_s()
    started_s = time.monotonic()
    rows = compute_average_time_on_flyer_per_user(spark.read.parquet(sys.argv[1])).collect()
    seconds = time.monotonic() - started_s
    took_cpu_s = cpu_s() - cpu_before_s
    spark.stop()
    print(
        json.dumps({"seconds": seconds, "cpu_s": took_cpu_s, "users": len(rows), "hours": sum(row[1] for row in rows)})
    )


main()
