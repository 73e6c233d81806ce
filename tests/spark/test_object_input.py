"""Files in an object store, row by row what Spark's own readers make of the same files in a folder."""

from __future__ import annotations

import bz2
import datetime as dt
import decimal
import gzip
import io
import json
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from functions.core.errors import MisconfiguredError
from spark import object_parts
from spark.backfill import session_for_history
from spark.history_input import columns_from, read
from spark.history_rows import checked
from tests.spark.object_stores import S3Server, upload, within

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore::ResourceWarning")]  # PySpark's sockets

NAMES: Final = ("timestamp", "user_id", "event", "flyer_id", "merchant_id")
TIMES: Final = [1_700_000_000_000_000 + number * 977_123_457 for number in range(300)]
ROWS: Final = [
    {
        "timestamp": "2023-11-14T22:13:20.123Z",
        "user_id": f"ü{number % 40}",
        "event": "flyer_open",
        "flyer_id": f'f "{number}" ; x',
        "merchant_id": "m\\n",
    }
    for number in range(300)
]
JSON: Final = "".join(f"{json.dumps(row, ensure_ascii=bool(at % 2))}\n" for at, row in enumerate(ROWS)).encode()
CSV: Final = (
    "timestamp,user_id,event,flyer_id,merchant_id\n"
    + "".join(
        ",".join('"' + value.replace('"', '""') + '"' if at % 3 else value.strip('"') for value in row.values()) + "\n"
        for at, row in enumerate(ROWS)
    )
).encode()


def folder_with(folder: Path, files: Mapping[str, bytes]) -> str:
    """Write files to a folder, and return it."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return str(folder)


def rows_in(
    spark: SparkSession, uri: str, kind: str, columns: Mapping[str, str], options: Mapping[str, str], unit: str | None
) -> list[Any]:
    """Return all rows as they are checked, in some order that depends on them alone."""
    named = columns_from(columns)
    rows = checked(
        read(session_for_history(spark), uri, kind, named, options),
        named,
        max_field_bytes=100,
        latest_us=None,
        unit=unit,
    )
    return sorted((tuple(row.asDict().items()) for row in rows.collect()), key=repr)


PARTS_BYTES: Final = (10**6, 1500)
"""How large parts are, at least and at most: whole files, and pieces of them."""


def check_equal(
    spark: SparkSession,
    s3: S3Server,
    folder: Path,
    kind: str,
    files: Mapping[str, bytes],
    columns: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    unit: str | None = None,
    pattern: str = "",
) -> list[Any]:
    """Check that a folder of this machine and one in an object store have the same rows, and return these.

    There they are read twice, in whole files and in parts.
    """
    local = folder_with(folder, files)
    remote = s3.uri(f"rows/{folder.name}")
    upload(folder, remote)
    wanted = rows_in(spark, f"{local}/{pattern}", kind, columns or {}, options or {}, unit)
    for part_bytes in PARTS_BYTES:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(object_parts, "LEAST_BYTES", part_bytes)
            patched.setattr(object_parts, "MOST_BYTES", part_bytes)
            found = rows_in(spark, within(remote, pattern), kind, columns or {}, options or {}, unit)
        assert len(wanted) == len(found)
        assert wanted == found
    return wanted


AWKWARD_JSON: Final = (
    b"\xef\xbb\xbf" + JSON[:1000] + b"\n  \r\n\t\n"
    b'[{"user_id":"in an array"},{"user_id":"too","flyer_id":null}]\r'
    b'{"user_id":7,"event":{"a":[1.50]},"flyer_id":true,"timestamp":"x"}\r\n'
    b"{no json\n\0{}\n"
    b'{"user_id":"broken \xff\xc3"}\n{"user_id":"\\ud83d\\ude00 \\u0000"}\n'
    b'{}\nnull\n"text"\n{"user_id":"u"} rest\n{"merchant_id":"mine","user_id":"'
    + b"x" * 500
    + b'"}\n{"user_id":"last"}'
)


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ({"a.json": JSON, "b.json": AWKWARD_JSON}, {}),
        ({"a.json.gz": gzip.compress(JSON) + gzip.compress(AWKWARD_JSON), "b.json.bz2": bz2.compress(JSON)}, {}),
        ({"a.json": AWKWARD_JSON}, {"mode": "DROPMALFORMED"}),
        (
            {"a.json": json.dumps(ROWS, indent=1).encode(), "b.json": b"[{", "c.json": b"\xef\xbb\xbf{}"},
            {"multiLine": "true"},
        ),
        ({"a.json": b"", "b.json": b"\n", "_c.json": JSON, ".d.json": JSON}, {}),
        ({f"day=1/merchant_id={name}/x.json": JSON[:2000] for name in ("007", "1.50", "a%2Fb", "ü")}, {}),
        ({f"merchant_id={name}/x.json": AWKWARD_JSON for name in ("m n", "__HIVE_DEFAULT_PARTITION__")}, {}),
    ],
    ids=["lines", "packed", "dropped", "arrays", "empty", "folders", "null folder"],
)
def test_json_has_the_same_rows(
    spark: SparkSession,
    s3: S3Server,
    tmp_path: Path,
    files: dict[str, bytes],
    options: dict[str, str],
) -> None:
    """Lines that are none, of other types, with other ends, in no UTF-8, packed, in folders that say something."""
    rows = check_equal(spark, s3, tmp_path, "json", files, options=options)

    assert bool(rows) == ("b.json" not in files or bool(files["b.json"].strip()))


AWKWARD_CSV: Final = (
    b"\n#no header\ntimestamp;user_id;event;flyer_id;merchant_id\n"
    b'2023-11-14T22:13:20Z;u;e;"f;""x""";m\r\n'
    b"only;two\n;;;;\n  \n\t\na;b;c;d;e;f\n#comment;b;c;d;e\n"
    b"timestamp;user_id;event;flyer_id;merchant_id\n"
    b'x;broken \xff\xc3;"not closed;f;m\nx;"";NULL; f ;\xc3\xbc\n' + b"x;" + b"u" * 400 + b";e;f;m\nx;last;e;f;m"
)
SEMICOLONS: Final = {"sep": ";", "comment": "#"}


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ({"a.csv": CSV, "b.csv": CSV[: CSV.index(b"\n") + 1], "c.csv": CSV[:900].rpartition(b"\n")[0]}, {}),
        ({"a.csv": AWKWARD_CSV, "b.csv": AWKWARD_CSV[:90].replace(b"timestamp;", b'"Timestamp";')}, SEMICOLONS),
        ({"a.csv.gz": gzip.compress(AWKWARD_CSV)}, SEMICOLONS | {"mode": "DROPMALFORMED", "nullValue": "NULL"}),
        ({"a.csv": b"user_id;merchant_id\n" + "é;1\n".encode("latin-1") * 90}, {"sep": ";", "charset": "ISO-8859-1"}),
        ({"a.csv": CSV.replace(b",", b"\t") + b"\t\t\t\t\n"}, {"sep": "\\t"}),
        ({"a.csv": CSV, "b.csv": CSV.replace(b"user_id,event", b"event,user_id", 1)}, {"enforceSchema": "true"}),
        ({"a.csv": CSV}, {"header": "false"}),
        ({f"merchant_id={name}/x.csv": b'user_id,event\nu,e\n"v,w",x\n' for name in ("007", "1.50")}, {}),
    ],
    ids=["headers", "awkward", "dropped", "latin", "tabs", "by place", "no header", "folders"],
)
def test_csv_has_the_same_rows(
    spark: SparkSession,
    s3: S3Server,
    tmp_path: Path,
    files: dict[str, bytes],
    options: dict[str, str],
) -> None:
    """Quoted, commented, blank, with too many fields and too few, with lines equal to the header."""
    columns = dict(zip(NAMES, [f"_c{at}" for at in range(5)], strict=True)) if options.get("header") else {}
    if next(iter(files.values())).startswith(b"user_id"):
        columns = dict.fromkeys(NAMES[:-1], "user_id")

    assert check_equal(spark, s3, tmp_path, "csv", files, columns, options)


def parquet(table: pa.Table, **more: Any) -> bytes:
    """Return a file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"row_group_size": 40, **more})
    return sink.getvalue()


def table_with(**columns: Any) -> pa.Table:
    """Return rows with some columns of other types."""
    usual: dict[str, Any] = {name: [row[name] for row in ROWS[:100]] for name in NAMES}
    return pa.table({**usual, "timestamp": pa.array(TIMES[:100], pa.timestamp("us", "UTC")), **columns})


MOMENTS: Final = [dt.datetime.fromtimestamp(at / 10**6, dt.UTC).replace(tzinfo=None) for at in TIMES[:100]]


@pytest.mark.parametrize(
    ("columns", "unit"),
    [
        ({}, None),
        ({"timestamp": pa.array(TIMES[:100], pa.timestamp("us"))}, None),
        ({"timestamp": pa.array([at // 1000 for at in TIMES[:100]], pa.timestamp("ms", "America/Toronto"))}, None),
        ({"timestamp": pa.array([at * 1000 + 999 for at in TIMES[:100]], pa.timestamp("ns", "UTC"))}, "ns"),
        ({"timestamp": pa.array([at // 10**6 for at in TIMES[:100]], pa.uint32())}, "s"),
        ({"timestamp": pa.array([row["timestamp"] for row in ROWS[:100]], pa.large_string())}, None),
        ({"user_id": pa.array([f"u{at % 3}" for at in range(100)]).dictionary_encode()}, None),
        ({"user_id": pa.array([b"\xff", b"\xc3\xbc", b"", None] * 25, pa.binary())}, None),
        ({"user_id": pa.array(range(100), pa.uint8()), "event": pa.array(range(100), pa.int8())}, None),
        ({"user_id": pa.array([1.5, None] * 50), "event": pa.array([True, False] * 50)}, None),
        ({"user_id": pa.array([decimal.Decimal("1.50")] * 100), "event": pa.array(MOMENTS, pa.date32())}, None),
        ({"user_id": pa.array(MOMENTS, pa.timestamp("us")), "event": pa.array([2**64 - 1] * 100, pa.uint64())}, None),
        ({"merchant_id": pa.nulls(100), "flyer_id": pa.nulls(100, pa.string())}, None),
        ({"user_id": pa.array([[1, 2], None] * 50), "event": pa.array([b"0123", b"4567"] * 50, pa.binary(4))}, None),
        ({"not needed": pa.array([dt.time(1)] * 100, pa.time64("ns")).cast(pa.int64())}, None),
    ],
    ids=[
        "as usual",
        "no zone",
        "milliseconds",
        "nanoseconds",
        "seconds",
        "texts",
        "dictionary",
        "bytes",
        "small",
        "halves",
        "decimals",
        "times as ids",
        "nulls",
        "lists",
        "not needed",
    ],
)
def test_parquet_has_the_same_rows(
    spark: SparkSession,
    s3: S3Server,
    tmp_path: Path,
    columns: dict[str, Any],
    unit: str | None,
) -> None:
    """Columns of every type that may be a text or a time."""
    files = {"day=1/a.parquet": parquet(table_with(**columns)), "day=2/b.parquet": parquet(table_with(**columns)[:30])}

    assert 130 == len(check_equal(spark, s3, tmp_path, "parquet", files, unit=unit))


def test_parquet_of_several_shapes_has_the_same_rows(spark: SparkSession, s3: S3Server, tmp_path: Path) -> None:
    """Old timestamps, structs, columns in another order, more of them and fewer, what folders say, a pattern."""
    table = table_with()
    data = pa.StructArray.from_arrays(
        [table[name].combine_chunks() for name in NAMES], names=NAMES, mask=pa.array([False, True] * 50)
    )
    nested = pa.table({"more": pa.array(range(100)), "data": data})
    old = parquet(table.drop_columns(["merchant_id"]), use_deprecated_int96_timestamps=True)
    others = table.select(reversed(NAMES)).append_column("more", pa.array(range(100))).drop_columns(["flyer_id"])
    (tmp_path / "old").mkdir()
    (tmp_path / "nested").mkdir()
    (tmp_path / "others").mkdir()
    files = {"x/merchant_id=007/a.parquet": old, "y/merchant_id=8/a.parquet": old, "x/_SUCCESS": b""}

    assert 100 == len(check_equal(spark, s3, tmp_path / "old", "parquet", files, pattern="[x]"))
    paths = {name: f"data.{name}" for name in NAMES}
    assert 100 == len(check_equal(spark, s3, tmp_path / "nested", "parquet", {"a.parquet": parquet(nested)}, paths))
    both = {"a.parquet": parquet(table), "b.parquet": parquet(others)}
    assert 200 == len(check_equal(spark, s3, tmp_path / "others", "parquet", both))


def test_a_column_of_another_type_than_the_first_files_is_made_that_type(
    spark: SparkSession, s3: S3Server, tmp_path: Path
) -> None:
    """Where that can be; else the file is named."""
    numbers = pa.array(range(100), pa.int64())
    files = {
        "a.parquet": parquet(table_with(user_id=numbers)),
        "b.parquet": parquet(table_with(user_id=numbers.cast(pa.int32()))),
    }
    upload(tmp_path / folder_with(tmp_path, files), s3.uri("types"))
    assert {str(at) for at in range(100)} == {
        dict(row)["user_id"] for row in rows_in(spark, s3.uri("types"), "parquet", {}, {}, None)
    }

    upload(tmp_path / folder_with(tmp_path, {"c.parquet": parquet(table_with())}), s3.uri("types"))
    with pytest.raises(Exception, match=r"types/c.parquet has user_id as string, the first file as int64"):
        rows_in(spark, s3.uri("types"), "parquet", {}, {}, None)


@pytest.mark.parametrize(
    ("kind", "files", "options", "said"),
    [
        ("csv", {"a.csv": b"x,y\n1,2\n"}, {}, "no column 'timestamp' for timestamp; the input has x, y"),
        ("csv", {"a.csv": b""}, {}, "no column 'timestamp' for timestamp"),
        ("csv", {"a.csv": CSV}, {"multiLine": "true"}, "CSV whose fields have line ends cannot be read"),
        ("csv", {"a.csv": CSV, "day=1/a.csv": CSV}, {}, r"folders give \S+ the columns \(\), but \S+ \(day\)"),
        ("json", {"a.json": JSON}, {"lineSep": ";"}, "option lineSep is not for json in an object store"),
        ("json", {"a.json": JSON}, {"encoding": "UTF-16"}, "texts in UTF-16 cannot be read from an object store"),
        ("parquet", {"a.parquet": b"none"}, {}, r"a\.parquet cannot be read as Parquet"),
        ("parquet", {"a.parquet": parquet(table_with())}, {"mergeSchema": "true"}, "option mergeSchema is not for"),
        (
            "parquet",
            {"a.parquet": parquet(pa.table({"x": [1], "user_id": ["u"]}))},
            {},
            "no column 'timestamp' for timestamp; the input has x, user_id",
        ),
    ],
)
def test_what_cannot_be_read_is_told_before_any_task(
    spark: SparkSession,
    s3: S3Server,
    tmp_path: Path,
    kind: str,
    files: dict[str, bytes],
    options: dict[str, str],
    said: str,
) -> None:
    """With what would be right."""
    uri = s3.uri(f"told/{tmp_path.name}")
    upload(tmp_path / folder_with(tmp_path, files), uri)

    with pytest.raises(MisconfiguredError, match=said):
        rows_in(spark, uri, kind, {}, options, None)


@pytest.mark.parametrize(
    ("kind", "files", "said"),
    [
        ("csv", {"a.csv": CSV, "b.csv": b"b,a\n"}, r"told/\S+/b.csv has the header b,a, the first file timestamp,user"),
        ("json", {"a.json.gz": gzip.compress(JSON)[:-30]}, r"told/\S+/a.json.gz cannot be read as gzip"),
        ("json", {"a.json.lz4": JSON}, r"told/\S+/a.json.lz4 cannot be read as lz4"),
    ],
)
def test_a_file_that_a_task_cannot_read_is_named(
    spark: SparkSession, s3: S3Server, tmp_path: Path, kind: str, files: dict[str, bytes], said: str
) -> None:
    """Nothing of it counts as read."""
    uri = s3.uri(f"told/{tmp_path.name}")
    upload(tmp_path / folder_with(tmp_path, files), uri)

    with pytest.raises(Exception, match=said) as caught:
        rows_in(spark, uri, kind, {}, {}, None)
    assert s3.secret not in str(caught.value)


def test_json_in_another_encoding_is_read_though_spark_would_not(
    spark: SparkSession, s3: S3Server, tmp_path: Path
) -> None:
    """Spark's own reader wants the ends of lines to be said then; so do they stay what they are."""
    text = '{"user_id":"é"}\r\n' * 90
    uri = s3.uri("encoded")
    upload(tmp_path / folder_with(tmp_path, {"a.json": text.encode("cp1252")}), uri)

    assert ["é"] * 90 == [dict(row)["user_id"] for row in rows_in(spark, uri, "json", {}, {"encoding": "cp1252"}, None)]
