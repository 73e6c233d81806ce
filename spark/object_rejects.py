"""Writing rejected rows to an object store: lines of JSON, a file for each of Spark's tasks that has some."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import functions as F  # noqa: N812  # the name that every Spark user knows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark.sql import DataFrame

    from spark.addresses import ObjectAddress

_WRITTEN: pa.Schema = pa.schema([("rows", pa.int64())])


def write_objects(rows: DataFrame, folder: ObjectAddress) -> None:
    """Write rows as a folder's only content; a task that is tried again writes its file anew.

    Raises:
        MisconfiguredError: The store refuses.
        UnavailableError: The store does not answer.
    """
    path = f"{folder.bucket}/{folder.path}"
    with folder.errors("emptied"):
        folder.open().delete_dir_contents(path, missing_dir_ok=True)

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        number = context.partitionId() if context else 0
        filled = (batch for batch in batches if len(batch))
        first = next(filled, None)
        if first is None:
            return
        written = 0
        with (
            folder.errors("written"),
            folder.open().open_output_stream(f"{path}/part-{number:05}.json", compression=None) as sink,
        ):
            for batch in (first, *filled):
                lines = batch.column(0).to_pylist()
                sink.write("".join(f"{line}\n" for line in lines).encode())
                written += len(lines)
        yield pa.RecordBatch.from_pydict({"rows": [written]}, _WRITTEN)

    rows.select(F.to_json(F.struct("*")).alias("line")).mapInArrow(write, "rows long").collect()
