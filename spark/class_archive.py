"""Class data sharing: archives of the classes that a run's JVM loads, so that the next JVM need not read them anew.

``python -m spark.class_archive`` makes one for folds, and with ``sql`` one for what counts history, beside the
installed packages; what runs on this machine takes its own where it is. One that does not fit (another Java, other
jars) is passed over by the JVM.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable

    import pyarrow as pa
    from pyspark import SparkContext

FOLDER: Final = Path(sys.prefix)
_EXIT_TIMEOUT_S: Final = 120


def path_of(*, sql: bool = False) -> Path:
    """Return where the archive is, or would be."""
    return FOLDER / ("spark-sql.jsa" if sql else "spark.jsa")


def java_options(*, sql: bool = False) -> str:
    """Return what makes a JVM take the archive; nothing where there is none."""
    path = path_of(sql=sql)
    return f'"-XX:SharedArchiveFile={path}"' if path.exists() else ""


def main(arguments: list[str]) -> int:
    """Start Spark, do a little with it, and have its JVM write the archive when it ends."""
    from functions.core.settings import Settings  # noqa: PLC0415  # what asks for the options needs none of this
    from spark.session import start_context  # noqa: PLC0415

    sql = arguments == ["sql"]
    path = path_of(sql=sql)
    making = path.with_suffix(f".{os.getpid()}")
    settings = dataclasses.replace(Settings(), spark_master="local[1]")
    options = f'"-XX:ArchiveClassesAtExit={making}" -Xlog:cds=off,cds+dynamic=off'
    with start_context(settings, "class-archive", sql=sql, java_options=options) as context:
        if sql:
            _count_rows(context)
        else:
            context.parallelize([1], 1).map(str).collect()
        process = _jvm_of(context)
    if process.stdin:
        process.stdin.close()  # which is how it is told to end
    process.wait(_EXIT_TIMEOUT_S)
    if not making.exists():
        sys.stderr.write("class_archive: this Java writes no archive; runs start without one\n")
        return 0
    making.replace(path)
    sys.stdout.write(f"{path}: {path.stat().st_size // 2**20} MB\n")
    return 0


def _count_rows(context: SparkContext) -> None:
    """Do with a few rows what a backfill does with many."""
    from pyspark.sql import Observation, SparkSession  # noqa: PLC0415  # as above
    from pyspark.sql import functions as F  # noqa: N812, PLC0415

    session = SparkSession(context)
    rows = session.range(9).select(F.col("id").cast("string").alias("user_id"), F.timestamp_millis("id").alias("at"))
    with tempfile.TemporaryDirectory() as folder:
        rows.write.parquet(f"{folder}/rows")
        read = session.read.schema(rows.schema).parquet(f"{folder}/rows")
        placed = read.observe(Observation(), F.count(F.lit(1)).alias("rows")).select(
            (F.crc32("user_id") % 2).cast("int").alias("shard"), "user_id", F.unix_micros("at").alias("at_us")
        )
        first = placed.groupBy("shard", "user_id").agg(F.min("at_us").alias("at_us"), F.count("*").alias("events"))
        for spans in (placed, first):
            ordered = spans.repartition(2, "shard").sortWithinPartitions("shard", "at_us")
            ordered.mapInArrow(_as_they_are, ordered.schema).collect()


def _as_they_are(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    yield from batches


def _jvm_of(context: SparkContext) -> subprocess.Popen[bytes]:
    """Return the process, which PySpark started and tells nobody else about."""
    gateway: Any = context._gateway  # noqa: SLF001  # as above
    jvm: subprocess.Popen[bytes] = gateway.proc
    return jvm


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
