"""Parquet from an object store: row groups, a piece at a time, in the types that Spark's own reader gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from functions.core.errors import MisconfiguredError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from spark.addresses import ObjectAddress
    from spark.object_files import Folders
    from spark.object_parts import Part

_ROWS_A_BATCH: Final = 32 * 1024
_TIMESTAMP: Final = pa.timestamp("us", "UTC")
_WIDER: Final = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.null(): pa.string(),
}
"""Types of Parquet, as Arrow has them, that Spark has others for."""


def type_for_spark(kind: pa.DataType) -> pa.DataType:
    """Return what Spark reads such a column as; nanoseconds, of which it knows no timestamps, are whole numbers."""
    if pa.types.is_dictionary(kind):
        return type_for_spark(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.int64() if kind.unit == "ns" else _TIMESTAMP if kind.tz else pa.timestamp("us")
    if pa.types.is_duration(kind):
        return pa.int64()
    if pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, type_for_spark(field.type)) for field in kind])
    return _WIDER.get(kind, kind)


def as_type(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a column in another type, the members of a struct by their names; what is not there is null.

    Raises:
        pa.ArrowInvalid: A value is none of that type.
        pa.ArrowNotImplementedError: No value ever is.
    """
    if pa.types.is_struct(kind) and pa.types.is_struct(values.type):
        members = dict(zip((field.name for field in values.type), values.flatten(), strict=True))
        arrays = [
            as_type(members[field.name], field.type) if field.name in members else pa.nulls(len(values), field.type)
            for field in kind
        ]
        return pa.StructArray.from_arrays(arrays, fields=list(kind), mask=values.is_null())
    if pa.types.is_dictionary(values.type):
        return as_type(values.dictionary_decode(), kind)
    if pa.types.is_timestamp(values.type) and pa.types.is_int64(kind):
        return values.cast(pa.timestamp("ns", values.type.tz)).cast(kind)
    return values if values.type == kind else pc.cast(values, kind)


def schema_of(file_system: Any, address: ObjectAddress, path: str) -> pa.Schema:
    """Return the columns of a file, in types for Spark.

    Raises:
        MisconfiguredError: It is no Parquet.
        UnavailableError: The store does not answer.
    """
    with address.errors(f"read ({path})"):
        try:
            with file_system.open_input_file(path) as source, _opened(source) as parquet:
                schema = parquet.schema_arrow
        except pa.ArrowInvalid:
            raise _no_parquet(path) from None
    return pa.schema([pa.field(field.name, type_for_spark(field.type)) for field in schema])


def needed(schema: pa.Schema, columns: Iterable[str]) -> pa.Schema:
    """Return what of a schema some columns need, a dot going into a struct; all of it where one is not there."""
    steps_of = [column.split(".") for column in columns]
    kept = _kept(pa.struct(list(schema)), steps_of)
    return schema if kept is None else pa.schema(list(kept))


def _kept(kind: pa.DataType, steps_of: Sequence[Sequence[str]]) -> pa.DataType | None:
    if any(not steps for steps in steps_of):
        return kind
    if not pa.types.is_struct(kind) or any(kind.get_field_index(steps[0]) < 0 for steps in steps_of):
        return None
    fields = []
    for field in kind:
        below = [steps[1:] for steps in steps_of if steps[0] == field.name]
        member = _kept(field.type, below) if below else None
        if below and member is None:
            return None
        fields += [pa.field(field.name, member)] if below else []
    return pa.struct(fields)


def rows_of_part(
    file_system: Any, address: ObjectAddress, part: Part, schema: pa.Schema, folders: Folders
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the row groups that begin in a part, in a schema; what folders say is a text in each row.

    Raises:
        MisconfiguredError: The file is gone, is no Parquet, or has a column of another kind than the first file's.
        UnavailableError: The store does not answer.
    """
    said = dict(folders)
    with address.errors(f"read ({part.path})"):
        try:
            with file_system.open_input_file(part.path) as source, _opened(source) as parquet:
                groups = [
                    group
                    for group in range(parquet.num_row_groups)
                    if part.start <= _begins(parquet.metadata.row_group(group)) < part.end
                ]
                names = [name for name in _leaves(schema) if name.partition(".")[0] not in said]
                for group in groups:
                    for batch in parquet.iter_batches(_ROWS_A_BATCH, [group], names, use_threads=False):
                        yield _in_schema(batch, schema, said, part.path)
        except pa.ArrowInvalid:
            raise _no_parquet(part.path) from None


def _opened(source: Any) -> pq.ParquetFile:
    # A row group's pieces are asked for at once; Spark reads INT96 as microseconds too.
    return pq.ParquetFile(source, pre_buffer=True, coerce_int96_timestamp_unit="us")


def _begins(group: Any) -> int:
    first = group.column(0)
    return int(min(first.data_page_offset, first.dictionary_page_offset or first.data_page_offset))


def _leaves(schema: pa.Schema) -> list[str]:
    def below(name: str, kind: pa.DataType) -> Iterator[str]:
        if pa.types.is_struct(kind):
            for field in kind:
                yield from below(f"{name}.{field.name}", field.type)
        else:
            yield name

    return [leaf for field in schema for leaf in below(field.name, field.type)]


def _in_schema(batch: pa.RecordBatch, schema: pa.Schema, said: dict[str, str | None], path: str) -> pa.RecordBatch:
    arrays = []
    for field in schema:
        if field.name in said:
            arrays.append(pa.repeat(pa.scalar(said[field.name], pa.string()), len(batch)))
        elif batch.schema.get_field_index(field.name) < 0:
            arrays.append(pa.nulls(len(batch), field.type))
        else:
            values = batch.column(field.name)
            try:
                arrays.append(as_type(values, field.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                raise MisconfiguredError(
                    "bad_input", f"{path} has {field.name} as {values.type}, the first file as {field.type}"
                ) from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _no_parquet(path: str) -> MisconfiguredError:
    return MisconfiguredError("bad_input", f"{path} cannot be read as Parquet")
