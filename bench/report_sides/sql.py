"""As PostgREST does it: the database itself makes the body from a table of the same rows, in one statement."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from functions.server import serve

if TYPE_CHECKING:
    from starlette.requests import Request

ROWS: Final = "(select user_id, round(seconds * 1.0 / sessions / 3600, 2) as hours from averages order by user_id)"
OBJECT: Final = "json_object('user_id', user_id, 'avg_time_on_flyer_per_user_hours', hours)"
HEAD: Final = "'user_id,avg_time_on_flyer_per_user_hours' || "
QUOTED: Final = "'\"' || replace(user_id, '\"', '\"\"') || '\"'"
SUMMARY: Final = "select json_object('users', count(*), 'mean_hours', avg(hours)"


def statements(engine: str) -> dict[str, str]:
    """Return the statement of each question; users stand in order, and CSV is quoted where it must be."""
    if engine == "sqlite":
        end, special, gathered = "x'0d0a'", "user_id glob '*[\",' || x'0d0a' || ']*'", "group_concat"
        nth = f"(select hours from {ROWS} order by hours limit 1 offset (select count(*) from averages) * %d / 100)"
        percentiles = [nth % percent for percent in (50, 90, 99)]
    else:
        end, special, gathered = "chr(13) || chr(10)", "regexp_matches(user_id, '[\",\r\n]')", "string_agg"
        percentiles = [f"quantile_disc(hours, 0.{percent})" for percent in (50, 90, 99)]
    text = f"case when {special} then {QUOTED} else user_id end"
    return {
        "json": f"select json_group_array({OBJECT}) from {ROWS}",
        "csv": f"select {HEAD} {end} || {gathered}({text} || ',' || hours, {end}) from {ROWS}",
        "one": f"select {OBJECT} from {ROWS} where user_id = ?",
        "summary": f"{SUMMARY}, 'p50', {percentiles[0]}, 'p90', {percentiles[1]}, 'p99', {percentiles[2]}) from {ROWS}",
    }


class Database:
    """Either of the two, read in a thread so that the server goes on."""

    def __init__(self, engine: str, path: str) -> None:
        self._statements = statements(engine)
        self._connection: Any
        if engine == "sqlite":
            self._connection = sqlite3.connect(path, check_same_thread=False)
        else:
            import duckdb  # noqa: PLC0415  # only this side needs it

            self._connection = duckdb.connect(path, read_only=True)

    async def body(self, name: str, *values: str) -> bytes:
        """Return what a statement makes."""

        def read() -> bytes:
            row = self._connection.execute(self._statements[name], values).fetchone()
            return str(row[0]).encode()

        return await asyncio.to_thread(read)


def main() -> None:
    """Serve a database: PORT ENGINE PATH."""
    port, engine, path = sys.argv[1:]
    database = Database(engine, path)

    async def everybody(request: Request) -> Response:
        wanted = request.query_params.get("format", "json")
        media_type = "text/csv" if wanted == "csv" else "application/json"
        return Response(await database.body(wanted), media_type=media_type)

    async def one(request: Request) -> Response:
        return Response(await database.body("one", request.path_params["user"]), media_type="application/json")

    async def summary(_: Request) -> Response:
        return Response(await database.body("summary"), media_type="application/json")

    async def healthy(_: Request) -> Response:
        return Response("OK")

    routes = [
        Route("/", everybody), Route("/users/{user}", one), Route("/summary", summary), Route("/healthz", healthy),
    ]  # fmt: skip
    serve(Starlette(routes=routes), "127.0.0.1", port=int(port))


if __name__ == "__main__":
    main()
