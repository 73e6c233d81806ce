"""Reading history from an object store: Arrow brings bytes and columns to Spark's tasks, Spark's parsers read texts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from pyspark.sql import functions as F  # noqa: N812  # the name that every Spark user knows
from pyspark.sql.pandas.types import from_arrow_schema

from functions.core.errors import MisconfiguredError
from spark.addresses import ObjectAddress
from spark.history_rows import CORRUPT
from spark.object_files import folder_names, found_files
from spark.object_json import MARK, JsonLines
from spark.object_parquet import needed, rows_of_part, schema_of
from spark.object_parts import tasks_of
from spark.object_text import (
    Header,
    csv_batches,
    encoding_of,
    first_line,
    lines_of_part,
    text_of_part,
)
from spark.text_formats import CSV_OPTIONS, csv_rows, csv_schema, json_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from spark.object_files import ObjectFile
    from spark.object_parts import Task

_OF_FILES: Final = {
    "basepath",
    "pathglobfilter",
    "recursivefilelookup",
    "modifiedbefore",
    "modifiedafter",
    "ignorecorruptfiles",
    "ignoremissingfiles",
    "linesep",
}
"""Options of Spark's readers, in small letters, that say how it comes by lines; here it does not."""


def read_objects(
    spark: SparkSession, uri: str, file_format: str, columns: Iterable[str], options: Mapping[str, str]
) -> DataFrame:
    """Return the rows of an input in an object store, as Spark's readers would have them.

    Raises:
        MisconfiguredError: It cannot be read so.
        UnavailableError: The store does not answer.
    """
    address = ObjectAddress.parse(uri)
    files = found_files(address)
    for option in options:
        if file_format == "parquet" or option.lower() in _OF_FILES:
            raise MisconfiguredError("bad_option", f"option {option} is not for {file_format} in an object store")
    if file_format == "parquet":
        return _read_parquet(spark, address, files, columns)
    texts = _Texts(spark, address, files, options)
    return texts.read_json(columns) if file_format == "json" else texts.read_csv()


def _read_parquet(
    spark: SparkSession, address: ObjectAddress, files: Sequence[ObjectFile], columns: Iterable[str]
) -> DataFrame:
    schema = schema_of(address.open(), address, files[0].path)
    for name in folder_names(files):
        at, said = schema.get_field_index(name), pa.field(name, pa.string())
        schema = schema.append(said) if at < 0 else schema.set(at, said)
    schema = needed(schema, columns)

    def rows_of(task: Task) -> Iterator[pa.RecordBatch]:
        file_system = address.open()
        for part in task.parts:
            yield from rows_of_part(file_system, address, part, schema, task.folders)

    tasks = tasks_of(files, spark.sparkContext.defaultParallelism, texts=False)
    return _of_tasks(spark, tasks, rows_of, from_arrow_schema(schema, prefer_timestamp_ntz=True))


def _of_tasks(
    spark: SparkSession, tasks: Sequence[Task], rows_of: Callable[[Task], Iterator[pa.RecordBatch]], schema: Any
) -> DataFrame:
    """Return what tasks yield; their paths and the address are in none of Spark's plans."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield from rows_of(tasks[number])

    return spark.range(0, len(tasks), 1, len(tasks)).mapInArrow(run, schema)


class _Texts:
    """An input of lines."""

    def __init__(
        self, spark: SparkSession, address: ObjectAddress, files: Sequence[ObjectFile], options: Mapping[str, str]
    ) -> None:
        self._spark = spark
        self._address = address
        self._files = files
        given = {name.lower(): value for name, value in options.items()}
        self._multi_line = given.get("multiline", "").lower() == "true"
        named = given.get("encoding", given.get("charset"))
        self._encoding = None if named is None else encoding_of(named)
        self._options = {
            name: value
            for name, value in options.items()
            if name.lower() not in {"encoding", "charset", "multiline"}  # done by then
        }
        self._tasks = tasks_of(files, spark.sparkContext.defaultParallelism, texts=True, whole=self._multi_line)

    def read_json(self, columns: Iterable[str]) -> DataFrame:
        """Return records, a line each, or all those of a file's array."""
        address, encoding, multi_line = self._address, self._encoding, self._multi_line
        columns = tuple(columns)

        def lines_of(task: Task) -> Iterator[pa.RecordBatch]:
            file_system, made = address.open(), JsonLines(columns)
            for part in task.parts:
                if multi_line:
                    yield made.document(text_of_part(file_system, address, part, encoding))
                else:
                    yield from map(made.batch, lines_of_part(file_system, address, part, encoding))

        reader = self._spark.read.schema(json_schema(columns)).options(**self._options)
        rows = _parsed(self._spark, reader, "json", _of_tasks(self._spark, self._tasks, lines_of, "value string"))
        corrupt = F.col(CORRUPT)
        unmarked = F.when(corrupt.startswith(MARK), F.substr(corrupt, F.lit(2))).otherwise(corrupt)
        return self._with_folders(rows.withColumn(CORRUPT, unmarked))

    def read_csv(self) -> DataFrame:
        """Return records, a line each, with the columns that the first line names."""
        if self._multi_line:
            raise MisconfiguredError(
                "bad_option",
                "CSV whose fields have line ends cannot be read from an object store: copy it to a folder, or make it "
                "Parquet or JSON",
            )
        options = {**CSV_OPTIONS, **self._options}
        given = {name.lower(): value for name, value in {**CSV_OPTIONS, **self._options}.items()}
        has_header = given["header"].lower() == "true"
        comment = given.get("comment", "").encode()
        line = self._first_line(comment)
        of_line = self._spark.createDataFrame([(line.decode(errors="replace"),)], "value string")
        reader = self._spark.read.options(**{**options, "inferSchema": "false"})
        names = _parsed(self._spark, reader, "csv", of_line).columns if line else []
        separator = given.get("sep", given.get("delimiter", ",")).replace("\\t", "\t")
        checked = given["enforceschema"].lower() != "true"
        header = Header(line, separator if len(separator) == 1 else "", comment, checked) if has_header else None
        address, encoding = self._address, self._encoding

        def lines_of(task: Task) -> Iterator[pa.RecordBatch]:
            file_system = address.open()
            for part in task.parts:
                lines = lines_of_part(file_system, address, part, encoding)
                yield from csv_batches(lines, header if part.start == 0 else None, part.path)

        reader = self._spark.read.schema(csv_schema(names)).options(**{**options, "header": "false"})
        rows = _parsed(self._spark, reader, "csv", _of_tasks(self._spark, self._tasks, lines_of, "value string"))
        columns = dict.fromkeys([*names, *folder_names(self._files)])
        return csv_rows(self._with_folders(rows), list(columns))

    def _first_line(self, comment: bytes) -> bytes:
        file_system = self._address.open()
        for part in (part for task in self._tasks for part in task.parts if part.start == 0):
            line = first_line(lines_of_part(file_system, self._address, part, self._encoding), comment)
            if line is not None:
                return line
        return b""

    def _with_folders(self, rows: DataFrame) -> DataFrame:
        """Add what folders say: all rows of a task have the same, and what a task has read is its own to parse."""
        names = folder_names(self._files)
        said = [dict(task.folders) for task in self._tasks]
        for name in names:
            values = F.from_json(F.lit(json.dumps([each[name] for each in said])), "array<string>")
            rows = rows.withColumn(name, values[F.spark_partition_id()])
        return rows


def _parsed(spark: SparkSession, reader: Any, file_format: str, lines: DataFrame) -> DataFrame:
    """Return lines as Spark's own parser reads them, which PySpark has for RDDs alone."""
    encoder = spark._jvm.org.apache.spark.sql.Encoders.STRING()  # type: ignore[union-attr]  # noqa: SLF001
    texts = getattr(lines._jdf, "as")(encoder)  # noqa: SLF001
    frame: DataFrame = reader._df(getattr(reader._jreader, file_format)(texts))  # noqa: SLF001
    return frame
