"""What JSON and CSV are to Spark's parsers here, wherever their lines come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from pyspark.sql import functions as F  # noqa: N812  # the name that every Spark user knows
from pyspark.sql.types import StringType, StructField, StructType

from spark.history_rows import CORRUPT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyspark.sql import DataFrame

Tree: TypeAlias = "dict[str, Tree | None]"
"""Names of members to those within, None where there are none."""
CSV_OPTIONS: Final = {"header": "true", "escape": '"', "enforceSchema": "false"}
"""What holds where nothing else was said: UTF-8, and a first line that names the columns."""


def tree_of(paths: Iterable[str]) -> Tree:
    """Return what paths name, a dot going into a struct."""
    below: dict[str, list[str]] = {}
    for path in paths:
        name, _, rest = path.partition(".")
        below.setdefault(name, []).extend([rest] if rest else [])
    return {name: tree_of(rest) if rest else None for name, rest in below.items()}


def json_schema(paths: Iterable[str]) -> StructType:
    """Return a schema of texts at these places, and a column for lines that are no record."""
    return _texts(tree_of(paths)).add(CORRUPT, StringType())


def _texts(tree: Tree) -> StructType:
    return StructType(
        [StructField(name, StringType() if below is None else _texts(below)) for name, below in tree.items()]
    )


def csv_schema(header: Sequence[str]) -> StructType:
    """Return a schema of texts, and a column for lines that are no record."""
    return StructType([StructField(name, StringType()) for name in [*header, CORRUPT]])


def csv_rows(rows: DataFrame, header: Sequence[str]) -> DataFrame:
    """Return rows of CSV with empty texts for empty fields: CSV knows no null."""
    return rows.select(
        *(F.when(F.col(CORRUPT).isNull(), F.coalesce(F.col(f"`{name}`"), F.lit(""))).alias(name) for name in header),
        CORRUPT,
    )
