"""Starting Spark for the fold: no SQL, no web page, nothing that a run of seconds has no use for."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pyspark import SparkConf, SparkContext

from spark import class_archive
from spark.prepared_daemon import ADDRESS, prepared_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from functions.core.settings import Settings


@contextmanager
def start_context(
    settings: Settings,
    run: str,
    *,
    sql: bool = False,
    java_options: str | None = None,
    given: Mapping[str, str] | None = None,
) -> Iterator[SparkContext]:
    """Start a Spark context, and stop it at the end.

    What spark-submit or the operator has set stays as it is; on one machine it listens on the loopback address only.
    With ``sql`` the JVM does work of its own, and gets the memory and the compiler for it. ``java_options`` are further
    ones on one machine; by default those that have classes from an archive, where there is one. ``given`` are settings
    of Spark that stay as they are too.
    """
    conf = SparkConf().setAll([*(given or {}).items()])
    conf.setIfMissing("spark.master", settings.spark_master or "local[*,4]")  # four tries a task, as on a cluster
    conf.setIfMissing("spark.app.name", run)
    conf.setIfMissing("spark.ui.enabled", "false")
    conf.setIfMissing("spark.ui.showConsoleProgress", "false")
    conf.setIfMissing("spark.python.daemon.module", "spark.worker_daemon")
    local = str(conf.get("spark.master")).startswith("local")
    if local:
        conf.setIfMissing("spark.driver.bindAddress", "127.0.0.1")
        conf.setIfMissing("spark.driver.host", "127.0.0.1")
        # In a fold the JVM only passes shard numbers around.
        conf.setIfMissing("spark.driver.memory", "2g" if sql else "512m")
        shared = class_archive.java_options(sql=sql) if java_options is None else java_options
        lean = "" if sql else "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC "
        conf.setIfMissing("spark.driver.extraJavaOptions", f"{lean}{shared}")
    # A Java of its own puts the command line together first: half a second with both compilers, on nothing.
    os.environ.setdefault("SPARK_LAUNCHER_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    # Where nobody chose an interpreter for the workers, ours: it has what they import.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    with ExitStack() as stack:
        if local and os.environ["PYSPARK_PYTHON"] == sys.executable:
            conf.set(f"spark.executorEnv.{ADDRESS}", stack.enter_context(prepared_daemon()))
        context = SparkContext(conf=conf)
        stack.callback(_stop, context)
        context.setLogLevel("WARN")
        yield context


def _stop(context: SparkContext) -> None:
    """Stop Spark, without the second that PySpark's server for accumulators takes to notice: we have none."""
    server = getattr(context, "_accumulatorServer", None)  # PySpark's own affair: ``stop`` would wait for it
    context._accumulatorServer = None  # type: ignore[assignment]  # noqa: SLF001
    context.stop()
    if server is not None:
        threading.Thread(target=server.shutdown, name="accumulators-end", daemon=True).start()
