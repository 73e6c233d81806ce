"""The daemon from which Spark forks its Python workers, with all that a fold imports already there.

From Spark's own daemon each worker would import Arrow, NumPy and the client of the store once more, in its own memory.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib.abc import MetaPathFinder
from typing import Any

from spark import prepared_daemon
from spark.unzipped import leave_zips

if __name__ == "__main__" and prepared_daemon.hand_over():
    sys.exit(0)


class _WithoutPandas(MetaPathFinder):
    """Says that there is no pandas: Arrow would import it, a third of a second, to see that it is given none of its."""

    def find_spec(self, fullname: str, *_: Any) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)


leave_zips()
sys.meta_path.insert(0, _WithoutPandas())

from functions.adapters.heap import keep_all_memory  # noqa: E402  # what follows is what this module is for

keep_all_memory()
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # the same heap; Arrow looks at it when imported

from pyspark.daemon import manager  # noqa: E402

import spark.folding  # noqa: E402
import spark.keeping  # noqa: E402
import spark.tasks  # noqa: E402, F401

if __name__ == "__main__":
    gc.freeze()  # the workers' collectors leave alone what they share, so that it stays shared
    if sys.argv[1:2] == [prepared_daemon.WAIT]:
        spark_is_told = prepared_daemon.take_over(int(sys.argv[2]))
        leave_zips()
    manager()  # type: ignore[no-untyped-call]  # PySpark has none
