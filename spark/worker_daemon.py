"""The daemon from which Spark forks its Python workers, with all that a fold imports already there.

From Spark's own daemon each worker would import Arrow, NumPy and the client of the store once more, in its own memory.
"""

from __future__ import annotations

import gc

from pyspark.daemon import manager

import spark.folding
import spark.tasks  # noqa: F401  # these three are what this module is for

if __name__ == "__main__":
    gc.freeze()  # the workers' collectors leave alone what they share, so that it stays shared
    manager()  # type: ignore[no-untyped-call]  # PySpark has none
