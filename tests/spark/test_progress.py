"""How far a job of Spark is."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest

from spark import progress

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore::ResourceWarning")]  # PySpark's sockets


def slowly(number: int) -> int:
    """Take a while."""
    time.sleep(0.2)
    return number


def test_the_tasks_of_a_stage_are_counted_as_they_end(spark: SparkSession, caplog: pytest.LogCaptureFixture) -> None:
    """In the log, each number once; nothing more when the work has ended."""
    context = spark.sparkContext
    with caplog.at_level(logging.INFO, "flyertime.job"), progress.shown(context, "backfill", 0.02):
        context.parallelize(range(8), 8).map(slowly).collect()
    lines = [record.getMessage() for record in caplog.records]
    counts = [int(line.partition(": ")[2].split()[2]) for line in lines]
    time.sleep(0.1)

    assert all(line.startswith("backfill: stage ") and line.endswith(" of 8 tasks") for line in lines)
    assert sorted(set(counts)) == counts
    assert len(counts) > 2
    assert len(lines) == len(caplog.records)
