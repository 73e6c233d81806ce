"""What JSON and CSV are to Spark's parsers here, wherever their lines come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pyspark.sql import functions as F  # noqa: N812  # the name that every Spark user knows
from pyspark.sql.types import StringType, StructField, StructType

from spark.history_rows import CORRUPT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyspark.sql import DataFrame

CSV_OPTIONS: Final = {"header": "true", "escape": '"', "enforceSchema": "false"}
"""What holds where nothing else was said: UTF-8, and a first line that names the columns."""


def json_schema(paths: Iterable[str]) -> StructType:
    """Return a schema of texts at these places, and a column for lines that are no record."""
    return _texts(paths).add(CORRUPT, StringType())


def _texts(paths: Any) -> StructType:
    """Return a schema of texts; structs where a path goes into some."""
    schema = StructType()
    below: dict[str, list[str]] = {}
    for path in paths:
        name, _, rest = path.partition(".")
        below.setdefault(name, []).extend([rest] if rest else [])
    for name, rest in below.items():
        schema.add(name, _texts(rest) if rest else StringType())
    return schema


def csv_schema(header: Sequence[str]) -> StructType:
    """Return a schema of texts, and a column for lines that are no record."""
    return StructType([StructField(name, StringType()) for name in [*header, CORRUPT]])


def csv_rows(rows: DataFrame, header: Sequence[str]) -> DataFrame:
    """Return rows of CSV with empty texts for empty fields: CSV knows no null."""
    return rows.select(
        *(F.when(F.col(CORRUPT).isNull(), F.coalesce(F.col(f"`{name}`"), F.lit(""))).alias(name) for name in header),
        CORRUPT,
    )
