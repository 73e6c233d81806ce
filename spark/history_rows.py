"""Rows of history checked as ingest checks events, as DataFrame functions: no row passes through Python.

A row that ingest would refuse gets its faults; the others get a moment in microseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyspark.sql import functions as F  # noqa: N812  # the name that every Spark user knows
from pyspark.sql.types import IntegralType, StringType, TimestampNTZType, TimestampType

from functions.core.errors import MisconfiguredError
from functions.core.events import FIELDS, NULLABLE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import Column, DataFrame

CORRUPT: Final = "_corrupt_record"
"""Column in which Spark puts a line that it cannot read."""
UNITS_NS: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}
"""Units of timestamps that are whole numbers, in nanoseconds."""
_MICROSECOND_NS: Final = 1000

_OFFSET: Final = r"([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
_USUAL: Final = r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d(\.\d{1,6})?(Z|[+-](0\d|1[0-7]):[0-5]\d)\z"
_RFC3339: Final = rf"\A(\d{{4}}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(\.\d+)?{_OFFSET}?\z"
_FIRST_US: Final = -62_135_596_800_000_000
_LAST_US: Final = 253_402_300_799_999_999
"""The years 1 to 9999, as ``functions.core.timestamps`` has them."""


def checked(
    rows: DataFrame, columns: Mapping[str, str], *, max_field_bytes: int, latest_us: int | None, unit: str | None = None
) -> DataFrame:
    """Return each row as an event with its faults.

    Args:
        rows: The history as it was read, perhaps with a column for lines that could not be read.
        columns: Field of an event to the column that holds it; a dot goes into a struct.
        max_field_bytes: Longest text, in UTF-8.
        latest_us: Latest moment that is believed; None believes any.
        unit: What a timestamp that is a whole number counts: s, ms, us or ns.

    Returns:
        Columns moment_us, timestamp (as text), user_id, event, flyer_id, merchant_id, and faults: codes, as ingest has
        them, empty where the row is good.

    Raises:
        MisconfiguredError: A column is not there, or of a type that says nothing about time.
    """
    found = {field: _column(rows, field, columns[field]) for field in FIELDS}
    texts = {field: found[field].cast("string") for field in FIELDS if field != "timestamp"}
    moment_us = _moment_us(rows, found["timestamp"], columns["timestamp"], unit)
    unread = F.col(CORRUPT).isNotNull() if CORRUPT in rows.columns else F.lit(False)
    faults = [F.when(unread, F.lit("not_a_record"))]
    faults.append(F.when(~unread & found["timestamp"].isNull(), F.lit("missing:timestamp")))
    faults += [
        F.when(~unread & text.isNull(), F.lit(f"missing:{field}"))
        for field, text in texts.items()
        if field not in NULLABLE_FIELDS
    ]
    in_years = F.coalesce(F.col("moment_us").between(_FIRST_US, _LAST_US), F.lit(False))
    faults.append(F.when(~unread & found["timestamp"].isNotNull() & ~in_years, F.lit("bad_timestamp")))
    if latest_us is not None:
        faults.append(F.when(in_years & (F.col("moment_us") > latest_us), F.lit("in_the_future")))
    for field, text in texts.items():
        faults.append(F.when(F.octet_length(text) > max_field_bytes, F.lit(f"too_long:{field}")))
        faults.append(F.when(~F.is_valid_utf8(text), F.lit(f"not_unicode:{field}")))
    return rows.withColumn("moment_us", moment_us).select(
        "moment_us",
        found["timestamp"].cast("string").alias("timestamp"),
        *(text.alias(field) for field, text in texts.items()),
        F.array_compact(F.array(*faults)).alias("faults"),
        *([F.col(CORRUPT)] if CORRUPT in rows.columns else []),
    )


def _column(rows: DataFrame, field: str, name: str) -> Column:
    path = name.split(".")
    at: object = rows.schema
    for step in path:
        names = getattr(at, "names", [])
        if step not in names:
            raise MisconfiguredError(
                "no_such_column",
                f"no column {name!r} for {field}; the input has {', '.join(rows.columns)} "
                f"(name the right one with --column {field}=NAME)",
            )
        at = at[step].dataType  # type: ignore[index]  # it has names, so it is a struct
    return F.col(".".join(f"`{step}`" for step in path))


def _moment_us(rows: DataFrame, column: Column, name: str, unit: str | None) -> Column:
    kind = rows.select(column.alias("timestamp")).schema["timestamp"].dataType
    if isinstance(kind, TimestampType | TimestampNTZType):
        return F.unix_micros(column.cast("timestamp"))
    if isinstance(kind, StringType) and unit is None:
        return parsed_us(column)
    if isinstance(kind, IntegralType | StringType) and unit is not None:
        return _number_us(column.try_cast("long"), UNITS_NS[unit])
    wanted = "say what it counts with --unit" if isinstance(kind, IntegralType) else "it must be a timestamp or a text"
    raise MisconfiguredError("bad_column", f"column {name!r} for timestamp is of type {kind.simpleString()}: {wanted}")


def _number_us(number: Column, unit_ns: int) -> Column:
    """Return a number of some unit in microseconds, floored; null where that is more than 64 bits hold."""
    if unit_ns >= _MICROSECOND_NS:
        return F.try_multiply(number, F.lit(unit_ns // _MICROSECOND_NS))
    whole = F.try_subtract(number, F.pmod(number, F.lit(_MICROSECOND_NS)))
    return F.call_function("div", whole, F.lit(_MICROSECOND_NS))


def parsed_us(text: Column) -> Column:
    """Return the microseconds since 1970 of RFC 3339 text, null where it is none; as ``timestamps.parse_us`` does."""
    second = F.regexp_extract(text, _RFC3339, 3)
    hour_minute = F.regexp_extract(text, _RFC3339, 2)
    leap = (second == "60") & hour_minute.endswith(":59:")
    local = F.concat(
        F.regexp_extract(text, _RFC3339, 1),
        F.lit("T"),
        hour_minute,
        F.when(leap, "59").otherwise(second),
        F.substring(F.regexp_extract(text, _RFC3339, 4), 1, 7),
        F.lit("Z"),
    )
    offset = F.regexp_extract(text, _RFC3339, 5)
    minutes = F.substring(offset, 2, 2).try_cast("int") * 60 + F.substring(offset, 5, 2).try_cast("int")
    offset_us = F.when(F.length(offset) < 6, 0).otherwise(
        F.when(offset.startswith("-"), -minutes).otherwise(minutes).cast("long") * 60_000_000
    )
    leap_us = F.when(leap, 1_000_000).otherwise(0)
    unusual = F.unix_micros(local.try_cast("timestamp")) + leap_us - F.coalesce(offset_us, F.lit(0))
    return F.when(text.rlike(_USUAL), F.unix_micros(text.try_cast("timestamp"))).when(text.rlike(_RFC3339), unusual)
