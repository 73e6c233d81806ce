"""Tables as an Arrow stream or a Parquet file, piece by piece. Imported only where one of them is asked for."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from functions.core.report_columns import Column, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

ROW_GROUP_ROWS: Final = 50_000
"""Of a Parquet file; what gathers for one is held in memory."""

_TYPES: Final = {
    Kind.TEXT: pa.string(),
    Kind.HOURS: pa.float64(),
    Kind.COUNT: pa.int64(),
    Kind.MOMENT: pa.timestamp("us", tz="UTC"),
}


class _Drain(io.RawIOBase):
    """A file that is taken away piece by piece."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def taken(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


class ArrowStream:
    """The IPC streaming format: a schema, record batches, and a mark at the end."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._drain = _Drain()
        self._writer = pa.ipc.new_stream(self._drain, _schema_of(columns))

    def begin(self) -> bytes:
        """Return the schema."""
        return self._drain.taken()

    def rows(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """Return a record batch."""
        if columns[0]:
            self._writer.write_batch(_batch_of(self._columns, columns))
        return self._drain.taken()

    def end(self) -> bytes:
        """Return the mark."""
        self._writer.close()
        return self._drain.taken()


class ParquetFile:
    """A Parquet file, whose footer comes last: a part of it is no file at all."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._schema = _schema_of(columns)
        self._drain = _Drain()
        self._writer = pq.ParquetWriter(self._drain, self._schema, compression="zstd")
        self._batches: list[Any] = []
        self._gathered = 0

    def begin(self) -> bytes:
        """Return the magic number."""
        return self._drain.taken()

    def rows(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """Return a row group where enough rows have gathered."""
        if columns[0]:
            self._batches.append(_batch_of(self._columns, columns))
            self._gathered += len(columns[0])
        if self._gathered >= ROW_GROUP_ROWS:
            self._write()
        return self._drain.taken()

    def end(self) -> bytes:
        """Return the last row group and the footer."""
        if self._batches:
            self._write()
        self._writer.close()
        return self._drain.taken()

    def _write(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._batches, self._schema))
        self._batches, self._gathered = [], 0


def _schema_of(columns: Sequence[Column]) -> Any:
    return pa.schema([pa.field(column.name, _TYPES[column.kind]) for column in columns])


def _batch_of(columns: Sequence[Column], values: Sequence[Sequence[Any]]) -> Any:
    arrays = [_array(column.kind, some) for column, some in zip(columns, values, strict=True)]
    return pa.record_batch(arrays, schema=_schema_of(columns))


def _array(kind: Kind, values: Sequence[Any]) -> Any:
    if kind is Kind.TEXT:
        return pa.array(values, pa.binary()).cast(pa.string())  # checks the UTF-8, in C
    if kind is Kind.HOURS:
        values = [None if value is None else value / 100 for value in values]
    return pa.array(values, _TYPES[kind])
