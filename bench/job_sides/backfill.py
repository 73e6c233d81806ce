"""History from a folder of Parquet into an empty state: from a running Spark to the committed report."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from pyspark.sql import SparkSession

from bench.job_sides.fold import report_of
from bench.job_sides.process_tree import cpu_s
from functions.adapters.redis_report import ReportStore
from functions.core import environment
from spark.backfill import Source, backfill
from spark.session import start_context


def main() -> None:
    """Run, and print the seconds, the number of users and the sum of their averages."""
    settings = environment.parse(os.environ)
    with start_context(settings, "bench", sql=True) as context:
        spark = SparkSession(context)
        cpu_before_s = cpu_s()
        started_s = time.monotonic()
        backfill(spark, settings, Source(sys.argv[1], "parquet"), None, None)
        took = {"seconds": time.monotonic() - started_s, "cpu_s": cpu_s() - cpu_before_s}
    print(json.dumps({**took, **asyncio.run(report_of(ReportStore(settings)))}))


main()
