"""The use case: answer with the averages, and with nothing at all where the asker has them already."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import msgspec
from starlette.responses import Response

from functions.adapters import web
from functions.adapters.redis_store import RedisStore
from functions.core.report import etag_of, json_array, matches, row_of, rows_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from functions.core.settings import Settings

_READ: Final = {"GET", "HEAD"}
_USERS: Final = "/users/"


class ReportHandler:
    """Answers who asks for the report; keeps nothing between requests but connections."""

    def __init__(self, settings: Settings) -> None:
        self._store = RedisStore(settings)

    async def ready(self) -> None:
        """Return when the store answers and fits the settings."""
        await self._store.shards()
        await self._store.now_ms()

    async def close(self) -> None:
        """Close the connections."""
        await self._store.close()

    async def handle(self, request: Request) -> Response:
        """Answer a request by its path."""
        if request.method not in _READ:
            return web.method_not_allowed("GET")
        # The raw path, since a user id may hold a slash, sent as %2F.
        path = request.scope.get("raw_path", request.url.path.encode()).decode("ascii", "replace")
        if path in {"", "/"}:
            return await self._all_users(request)
        if path.startswith(_USERS) and "/" not in (name := path.removeprefix(_USERS)):
            return await self._one_user(request, unquote(name))
        return web.problem_reply(404, "no_such_path", "ask GET / for all users or GET /users/{id} for one")

    async def _all_users(self, request: Request) -> Response:
        if known := _known(request, etag_of(await self._store.versions(), "json")):
            return known
        shards = await self._store.averages()
        # Of what was read, not of what was asked about above: a run may have committed in between.
        etag = etag_of([shard.version for shard in shards], "json")
        return _reply(json_array(rows_of(shard.averages for shard in shards)), etag)

    async def _one_user(self, request: Request, user_id: str) -> Response:
        _, average = await self._store.average_of(user_id)
        row = None if average is None else row_of(user_id.encode(), average)
        if row is None:
            return web.problem_reply(404, "no_such_user", "this user has no two events on one flyer in the report")
        body = msgspec.json.encode(row)
        etag = f'"user-{hashlib.sha256(body).hexdigest()[:20]}"'
        return _known(request, etag) or _reply(body, etag)


def _known(request: Request, etag: str) -> Response | None:
    """Return the 304 for an asker who has this representation already."""
    if (condition := request.headers.get("if-none-match")) and matches(etag, condition):
        return Response(status_code=304, headers=_validators(etag))
    return None


def _reply(body: bytes, etag: str) -> Response:
    return Response(body, media_type="application/json", headers=_validators(etag))


def _validators(etag: str) -> dict[str, str]:
    return {"etag": etag, "cache-control": "no-cache"}
