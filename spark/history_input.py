"""Reading history: files on a file system that Hadoop can open, or in an object store, and which files they are."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pyspark.errors import PySparkException

from functions.core.errors import MisconfiguredError
from functions.core.events import FIELDS
from spark.addresses import ObjectAddress, is_in_object_store
from spark.object_files import ObjectFile, folder_names, folders_of, found_files
from spark.object_input import read_objects
from spark.text_formats import CSV_OPTIONS, csv_rows, csv_schema, json_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

_MILLISECOND_NS: Final = 1_000_000
FORMATS: Final = ("parquet", "json", "csv")
_CONNECTORS: Final = {"abfss": "org.apache.hadoop:hadoop-azure:{hadoop}"}
"""What brings a file system that Spark does not have, by the scheme of its addresses."""


@dataclass(frozen=True, slots=True)
class InputFiles:
    """The files of an input, and what tells whether they are still the same."""

    files: int
    bytes: int
    digest: str
    """Follows from the names, sizes and times of all files."""


def files_of(spark: SparkSession, uri: str, options: Mapping[str, str] | None = None) -> InputFiles:
    """Return the files below an address, or those that its pattern matches; as in Spark, none in ``_`` or ``.``.

    Raises:
        MisconfiguredError: There are none, or the file system cannot be read, or folders say of some files what those
            of others do not: Spark passes such others over without a word.
        UnavailableError: The object store does not answer.
    """
    given = {name.lower(): text.lower() for name, text in (options or {}).items()}
    folders_speak = given.get("recursivefilelookup") != "true"
    if is_in_object_store(uri):
        in_store = found_files(ObjectAddress.parse(uri))
        if folders_speak:
            folder_names(in_store)
        return _summed([(file.path, file.size_bytes, file.mtime_ns) for file in in_store])
    jvm: Any = spark._jvm  # noqa: SLF001  # PySpark's own way to Hadoop's file systems
    try:
        root = jvm.org.apache.hadoop.fs.Path(uri)
        file_system = root.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())  # noqa: SLF001  # as above
        found: list[ObjectFile] = []
        for start in file_system.globStatus(root) or ():
            files = file_system.listFiles(start.getPath(), True)
            while files.hasNext():
                status = files.next()
                path = status.getPath().toString()
                below = path.removeprefix(start.getPath().toString()).split("/")
                if not any(step.startswith(("_", ".")) for step in [*below, status.getPath().getName()]):
                    mtime_ns = status.getModificationTime() * _MILLISECOND_NS
                    found.append(ObjectFile(path, status.getLen(), mtime_ns, folders_of(below[1:-1])))
    except Exception as e:  # of Java, many kinds
        if not type(e).__module__.startswith(("py4j", "pyspark")):
            raise
        reason = str(getattr(e, "java_exception", e)).splitlines()[0]
        if "No FileSystem for scheme" in reason or "ClassNotFoundException" in reason:
            reason = _what_is_missing(uri.partition("://")[0], jvm.org.apache.hadoop.util.VersionInfo.getVersion())
        raise MisconfiguredError("bad_input", f"{shown_input(uri)} cannot be read: {reason}") from e
    if not found:
        raise MisconfiguredError("no_input", f"{shown_input(uri)}: no such file or folder, or nothing in it")
    if folders_speak:
        folder_names(sorted(found))
    return _summed([(file.path, file.size_bytes, file.mtime_ns // _MILLISECOND_NS) for file in found])


def _summed(found: Sequence[tuple[str, int, int]]) -> InputFiles:
    digest = hashlib.sha256(repr(sorted(found)).encode()).hexdigest()
    return InputFiles(len(found), sum(size for _, size, _ in found), digest)


def _what_is_missing(scheme: str, hadoop: str) -> str:
    """Say how Spark gets a file system that it does not have."""
    if scheme == "s3n":
        return "write s3:// in place of it"
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
        UnavailableError: The object store does not answer.
    """
    try:
        if is_in_object_store(uri):
            return read_objects(spark, uri, file_format, columns.values(), options)
        if file_format == "parquet":
            return spark.read.options(**options).parquet(uri)
        if file_format == "json":
            return spark.read.schema(json_schema(columns.values())).options(**options).json(uri)
        return _read_csv(spark, uri, options)
    except PySparkException as e:
        shown = f"{shown_input(uri)} cannot be read as {file_format}"
        raise MisconfiguredError("bad_input", f"{shown}: {_first_line(e)}") from e


def _read_csv(spark: SparkSession, uri: str, options: Mapping[str, str]) -> DataFrame:
    as_written = {**CSV_OPTIONS, **options}
    header = spark.read.options(**{**as_written, "inferSchema": "false"}).csv(uri).columns
    return csv_rows(spark.read.schema(csv_schema(header)).options(**as_written).csv(uri), header)


def shown_input(uri: str) -> str:
    """Return an address as it may be shown and kept: without user and password, all else as it is."""
    return re.sub(r"^([\w+.-]+://)[^/?]*@", r"\1", uri)


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
