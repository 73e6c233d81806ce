"""The end of a Spark context."""

from __future__ import annotations

from tests.spark.own_process import last_line_of

STOP = """
import threading
import time
from pyspark.accumulators import AccumulatorServer
from functions.core.settings import Settings
from spark.session import start_context

waiting, shutdown = [], AccumulatorServer.shutdown

def watched(server):
    waiting.append((threading.current_thread(), server))
    shutdown(server)

AccumulatorServer.shutdown = watched
with start_context(Settings(spark_master="local[2]"), "ending") as context:
    assert context.parallelize([1, 2], 2).sum() == 3
deadline_s = time.monotonic() + 30
while not (waiting and waiting[0][1].fileno() == -1):
    assert time.monotonic() < deadline_s
    time.sleep(0.05)
print(waiting[0][0] is threading.main_thread())
"""


def test_the_server_for_accumulators_is_closed_without_a_run_waiting_for_it() -> None:
    """It looks every second whether it is to end, and a small run takes four."""
    assert last_line_of(STOP) == "False"
