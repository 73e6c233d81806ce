"""One process without Spark over a folder of Parquet: DuckDB or Polars, told the telescoped form of the number."""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    """Run, and print the seconds, the number of users and the sum of their averages."""
    engine, folder = sys.argv[1:]
    started_s = time.monotonic()
    averages = (_duckdb if engine == "duckdb" else _polars)(f"{folder}/*.parquet")
    seconds = time.monotonic() - started_s
    print(json.dumps({"seconds": seconds, "users": len(averages), "hours": sum(averages)}))


def _duckdb(files: str) -> list[float]:
    import duckdb  # noqa: PLC0415  # its import is part of what it takes

    query = """
        select round(sum(seconds) / sum(sessions) / 3600, 2) as hours
        from (
            select epoch(date_trunc('second', max(timestamp))) - epoch(date_trunc('second', min(timestamp))) as seconds,
                user_id, count(*) - 1 as sessions
            from read_parquet($files) where event in ('flyer_open', 'flyer_close') group by user_id, flyer_id
        ) group by user_id having sum(sessions) > 0
    """
    return [row[0] for row in duckdb.connect().execute(query, {"files": files}).fetchall()]


def _polars(files: str) -> list[float]:
    import polars as pl  # noqa: PLC0415  # its import is part of what it takes

    moment = pl.col("timestamp").dt.epoch("s")
    return (
        pl.scan_parquet(files)
        .filter(pl.col("event").is_in(["flyer_open", "flyer_close"]))
        .group_by("user_id", "flyer_id")
        .agg(seconds=moment.max() - moment.min(), sessions=pl.len().cast(pl.Int64) - 1)
        .group_by("user_id")
        .agg(pl.col("seconds").sum(), pl.col("sessions").sum())
        .filter(pl.col("sessions") > 0)
        .select(hours=(pl.col("seconds") / pl.col("sessions") / 3600).round(2))
        .collect(engine="streaming")["hours"]
        .to_list()
    )


main()
