"""Reading history: files on a file system or an object store, whichever Hadoop can open, and which files they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pyspark.errors import PySparkException
from pyspark.sql import functions as F  # noqa: N812  # the name that every Spark user knows
from pyspark.sql.types import StringType, StructField, StructType

from functions.core.errors import MisconfiguredError
from functions.core.events import FIELDS
from functions.core.settings import without_credentials
from spark.history_rows import CORRUPT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame, SparkSession

FORMATS: Final = ("parquet", "json", "csv")
_CONNECTORS: Final = {
    "s3a": "org.apache.hadoop:hadoop-aws:{hadoop}",
    "gs": "com.google.cloud.bigdataoss:gcs-connector",
    "abfss": "org.apache.hadoop:hadoop-azure:{hadoop}",
}
"""What brings a file system that Spark does not have, by the scheme of its addresses."""


@dataclass(frozen=True, slots=True)
class InputFiles:
    """The files of an input, and what tells whether they are still the same."""

    files: int
    bytes: int
    digest: str
    """Follows from the names, sizes and times of all files."""


def files_of(spark: SparkSession, uri: str) -> InputFiles:
    """Return the files below an address, or those that its pattern matches; as in Spark, none in ``_`` or ``.``.

    Raises:
        MisconfiguredError: There are none, or the file system cannot be read.
    """
    jvm: Any = spark._jvm  # noqa: SLF001  # PySpark's own way to Hadoop's file systems
    try:
        root = jvm.org.apache.hadoop.fs.Path(uri)
        file_system = root.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())  # noqa: SLF001  # as above
        found: list[tuple[str, int, int]] = []
        for start in file_system.globStatus(root) or ():
            files = file_system.listFiles(start.getPath(), True)
            while files.hasNext():
                status = files.next()
                path = status.getPath().toString()
                below = path.removeprefix(start.getPath().toString()).split("/")
                if not any(step.startswith(("_", ".")) for step in [*below, status.getPath().getName()]):
                    found.append((path, status.getLen(), status.getModificationTime()))
    except Exception as e:  # of Java, many kinds
        if not type(e).__module__.startswith(("py4j", "pyspark")):
            raise
        reason = str(getattr(e, "java_exception", e)).splitlines()[0]
        if "No FileSystem for scheme" in reason or "ClassNotFoundException" in reason:
            reason = _what_is_missing(uri.partition("://")[0], jvm.org.apache.hadoop.util.VersionInfo.getVersion())
        raise MisconfiguredError("bad_input", f"{without_credentials(uri)} cannot be read: {reason}") from e
    if not found:
        raise MisconfiguredError("no_input", f"{uri}: no such file or folder, or nothing in it")
    digest = hashlib.sha256(repr(sorted(found)).encode()).hexdigest()
    return InputFiles(len(found), sum(size for _, size, _ in found), digest)


def _what_is_missing(scheme: str, hadoop: str) -> str:
    """Say how Spark gets a file system that it does not have."""
    if scheme in {"s3", "s3n"}:
        return "write s3a:// in place of it"
    connector = _CONNECTORS.get(scheme)
    if connector is None:
        return f"Spark knows no file system for {scheme}://"
    return (
        f"this Spark has no file system for {scheme}://. Name {connector.format(hadoop=hadoop)} in spark.jars.packages"
        ", or put its jars, and those that it needs, into Spark's folder jars"
    )


def read(
    spark: SparkSession, uri: str, file_format: str, columns: Mapping[str, str], options: Mapping[str, str]
) -> DataFrame:
    """Return the rows of an input as it has them; lines that are no record stand in a column of their own.

    Raises:
        MisconfiguredError: Spark cannot make sense of it.
    """
    try:
        if file_format == "parquet":
            return spark.read.options(**options).parquet(uri)
        if file_format == "json":
            schema = _text_schema(columns.values())
            return spark.read.schema(schema.add(CORRUPT, StringType())).options(**options).json(uri)
        return _read_csv(spark, uri, options)
    except PySparkException as e:
        raise MisconfiguredError("bad_input", f"{uri} cannot be read as {file_format}: {_first_line(e)}") from e


def _read_csv(spark: SparkSession, uri: str, options: Mapping[str, str]) -> DataFrame:
    """Read CSV in UTF-8, whose first line names the columns; an empty field is an empty text, CSV knows no null."""
    as_written = {"header": "true", "escape": '"', "enforceSchema": "false", **options}
    header = spark.read.options(**{**as_written, "inferSchema": "false"}).csv(uri).columns
    schema = StructType([StructField(name, StringType()) for name in [*header, CORRUPT]])
    rows = spark.read.schema(schema).options(**as_written).csv(uri)
    return rows.select(
        *(F.when(F.col(CORRUPT).isNull(), F.coalesce(F.col(f"`{name}`"), F.lit(""))).alias(name) for name in header),
        CORRUPT,
    )


def _text_schema(paths: Any) -> StructType:
    """Return a schema of texts at these places; structs where a path goes into some."""
    schema = StructType()
    below: dict[str, list[str]] = {}
    for path in paths:
        name, _, rest = path.partition(".")
        below.setdefault(name, []).extend([rest] if rest else [])
    for name, rest in below.items():
        schema.add(name, _text_schema(rest) if rest else StringType())
    return schema


def columns_from(pairs: Mapping[str, str]) -> dict[str, str]:
    """Return field to column for all fields, those not named being called as the field is.

    Raises:
        MisconfiguredError: There is no such field.
    """
    for field in pairs:
        if field not in FIELDS:
            raise MisconfiguredError("bad_column", f"{field!r} is no field of an event: {', '.join(FIELDS)}")
    return {field: pairs.get(field, field) for field in FIELDS}


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300]
