"""The daemon from which Spark forks its Python workers, with all that a fold imports already there.

From Spark's own daemon each worker would import Arrow, NumPy and the client of the store once more, in its own memory.
"""

from __future__ import annotations

import gc
import sys
from importlib.abc import MetaPathFinder
from typing import Any

from spark.unzipped import unzipped


class _WithoutPandas(MetaPathFinder):
    """Says that there is no pandas: Arrow would import it, a third of a second, to see that it is given none of its."""

    def find_spec(self, fullname: str, *_: Any) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)


sys.path[:] = unzipped(sys.path)
sys.meta_path.insert(0, _WithoutPandas())

from pyspark.daemon import manager  # noqa: E402  # what follows is what this module is for

import spark.folding  # noqa: E402
import spark.tasks  # noqa: E402, F401

if __name__ == "__main__":
    gc.freeze()  # the workers' collectors leave alone what they share, so that it stays shared
    manager()  # type: ignore[no-untyped-call]  # PySpark has none
