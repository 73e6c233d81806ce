"""The obvious handler: read everything from Redis, make a list of dicts, `json.dumps` or `csv` it."""

from __future__ import annotations

import csv
import io
import json
import os
import statistics
import sys
from typing import TYPE_CHECKING, Any

import redis.asyncio
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from functions.core.shards import DEFAULT_SHARDS, Keys, shard_of
from functions.core.spans import average_hours, unpack_totals
from functions.server import serve

if TYPE_CHECKING:
    from starlette.requests import Request

keys = Keys(os.environ["FLYERTIME_NAMESPACE"])
store = redis.asyncio.Redis.from_url(os.environ["FLYERTIME_REDIS_URL"])


def row_of(user: bytes, value: bytes) -> dict[str, Any]:
    """Return one row."""
    totals = unpack_totals(value)
    hours = average_hours(totals.seconds, totals.sessions)
    return {"user_id": user.decode(), "avg_time_on_flyer_per_user_hours": hours}


async def rows() -> list[dict[str, Any]]:
    """Return all rows."""
    found = []
    for shard in range(DEFAULT_SHARDS):
        averages: Any = await store.hgetall(keys.averages(shard))
        found += [row_of(user, value) for user, value in averages.items()]
    return found


async def everybody(request: Request) -> Response:
    """Answer with all users."""
    if request.query_params.get("format") != "csv":
        return Response(json.dumps(await rows()), media_type="application/json")
    text = io.StringIO()
    writer = csv.DictWriter(text, ["user_id", "avg_time_on_flyer_per_user_hours"])
    writer.writeheader()
    writer.writerows(await rows())
    return Response(text.getvalue(), media_type="text/csv")


async def one(request: Request) -> Response:
    """Answer with one user."""
    user = request.path_params["user"]
    value: Any = await store.hget(keys.averages(shard_of(user, DEFAULT_SHARDS)), user)
    return Response(json.dumps(row_of(user.encode(), value)), media_type="application/json")


async def summary(_: Request) -> Response:
    """Answer with a few numbers of all users."""
    hours = [row["avg_time_on_flyer_per_user_hours"] for row in await rows()]
    cuts = statistics.quantiles(hours, n=100)
    few = {
        "users": len(hours),
        "mean_hours": statistics.fmean(hours),
        "p50": cuts[49],
        "p90": cuts[89],
        "p99": cuts[98],
    }
    return Response(json.dumps(few), media_type="application/json")


async def healthy(_: Request) -> Response:
    """Answer the first question."""
    return Response("OK")


if __name__ == "__main__":
    routes = [
        Route("/", everybody), Route("/users/{user}", one), Route("/summary", summary), Route("/healthz", healthy),
    ]  # fmt: skip
    serve(Starlette(routes=routes), "127.0.0.1", int(sys.argv[1]))
