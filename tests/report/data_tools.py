"""The data tools that read the report in tests: each format to rows, as its documentation says."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path


def _pandas(wanted: str, body: bytes, _: Path) -> Any:
    stream = io.BytesIO(body)
    text = {"user_id": str}
    match wanted:
        case "csv":
            kept = {"avg_open_to_close_hours": ""}
            frame: Any = pd.read_csv(stream, dtype=text, keep_default_na=False, na_values=kept)
        case "parquet":
            frame = pd.read_parquet(stream)
        case "ndjson":
            frame = pd.read_json(stream, lines=True, dtype=text, precise_float=True)
        case _:
            frame = pa.ipc.open_stream(stream).read_all().to_pandas()
    return frame.to_dict("records")


def _polars(wanted: str, body: bytes, _: Path) -> Any:
    stream = io.BytesIO(body)
    text = {"user_id": pl.String}
    match wanted:
        case "csv":
            return pl.read_csv(stream, schema_overrides=text).to_dicts()
        case "parquet":
            return pl.read_parquet(stream).to_dicts()
        case "ndjson":
            return pl.read_ndjson(stream, schema_overrides=text).to_dicts()
        case _:
            return pl.read_ipc_stream(stream).to_dicts()


def _pyarrow(wanted: str, body: bytes, _: Path) -> Any:
    stream = io.BytesIO(body)
    match wanted:
        case "csv":
            options = pyarrow.csv.ConvertOptions(column_types={"user_id": pa.string()}, strings_can_be_null=False)
            return pyarrow.csv.read_csv(stream, convert_options=options).to_pylist()
        case "parquet":
            return pq.read_table(stream).to_pylist()
        case "ndjson":
            return pyarrow.json.read_json(stream).to_pylist()
        case _:
            return pa.ipc.open_stream(stream).read_all().to_pylist()


def _duckdb(wanted: str, body: bytes, path: Path) -> Any:
    stream = pa.ipc.open_stream(io.BytesIO(body)).read_all() if wanted == "arrow" else None
    source = {
        "csv": f"read_csv('{path}', types={{'user_id': 'VARCHAR'}}, nullstr='', force_not_null=['user_id'])",
        "parquet": f"read_parquet('{path}')",
        "ndjson": f"read_json('{path}', format='newline_delimited')",
        "arrow": "stream",
    }[wanted]
    with duckdb.connect() as database:
        if stream is not None:
            database.register("stream", stream)
        done = database.execute(f"select * exclude (first_seen, last_seen) from {source}")  # noqa: S608  # needs pytz
        names = [column[0] for column in done.description or ()]
        return [dict(zip(names, row, strict=True)) for row in done.fetchall()]


READERS = {"pandas": _pandas, "polars": _polars, "pyarrow": _pyarrow, "duckdb": _duckdb}
