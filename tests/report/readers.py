"""Readers with keys of merchants and of all, and every question that they may ask, from the table of routes."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from functions.core.access import sha256_of
from functions.core.event_types import REPORT_REQUESTED
from functions.core.pseudonyms import Pseudonyms
from functions.core.read_access import ReadKey
from functions.core.report_query import FORMATS
from functions.report.routes import ROUTES, Answer, Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2


MERCHANTS = ("acme", "zephyr/ü:1", "acme2")
ALL = "ftr_all"
TOKENS = {merchant: f"ftr_{place}" for place, merchant in enumerate(MERCHANTS)}
ACME, ZEPHYR, ACME2 = TOKENS.values()
KEYS = {ALL: None, **{token: merchant for merchant, token in TOKENS.items()}}
HOUR_S = 3600
LINES = "\n".join(
    ReadKey(f"k{place}", sha256_of(token), merchant).line for place, (token, merchant) in enumerate(KEYS.items())
)
SECRET = "thirty-two characters, or a few more"
OPEN = {Answer.DESCRIPTION}
"""What everybody may read."""


def shown_as(user: str, merchant: str, pseudonyms: str) -> str:
    """Return how a merchant's reader is shown a user, as the setting of pseudonyms says."""
    return user if pseudonyms == "off" else Pseudonyms(SECRET, merchant).of(user.encode()).decode()


def bearer(token: str) -> dict[str, str]:
    """Return the header with a key."""
    return {"authorization": f"Bearer {token}"}


def paths(route: Route, merchant: str, user: str = "shared") -> str:
    """Return a path of a route."""
    parts = {"merchant_id": quote(merchant, safe=""), "user_id": quote(user, safe="")}
    return route.template.format(**parts)


def text_of(answer: httpx2.Response) -> str:
    """Return all that an answer says, its headers too; tables of bytes as text."""
    kind = answer.headers.get("content-type", "").partition(";")[0]
    body = answer.text
    if kind == "application/vnd.apache.arrow.stream":
        body = str(pa.ipc.open_stream(answer.content).read_all().to_pylist())
    elif kind == "application/vnd.apache.parquet":
        body = str(pq.read_table(io.BytesIO(answer.content)).to_pylist())
    return f"{answer.headers} {body}"


def variants(route: Route) -> list[dict[str, str]]:
    """Return queries that a route takes: each format, and each filter, order and page."""
    queries: list[dict[str, str]] = [{}]
    if route.has_formats:
        queries += [{"format": name} for name in FORMATS]
    questions = {
        "fields": "all", "min_sessions": "1", "min_hours": "0", "max_hours": "1000", "prefix": "", "sort": "-hours",
        "limit": "3",
    }  # fmt: skip
    queries += [{name: value} for name, value in questions.items() if name in route.parameters]
    if "limit" in route.parameters:
        queries += [{"limit": "3", "format": name} for name in FORMATS]
    return queries


CASES = [
    pytest.param(route, query, id=f"{route.name}-{'&'.join(f'{k}={v}' for k, v in query.items())}")
    for route in ROUTES
    for query in variants(route)
]


def all_answers(client: httpx2.Client, token: str, user: str = "shared") -> Iterator[tuple[str, httpx2.Response]]:
    """Yield the answers of every route in every variant, and of an event."""
    for route in ROUTES:
        for query in variants(route) if route.answer not in OPEN else ():
            answer = client.get(paths(route, KEYS[token] or "", user), params=query, headers=bearer(token))
            yield f"{route.name}-{query}", answer
    for rows in (False, True):
        event = {"specversion": "1.0", "id": "1", "source": "/p", "type": REPORT_REQUESTED, "data": {"rows": rows}}
        head = {**bearer(token), "content-type": "application/cloudevents+json"}
        yield f"event-{rows}", client.post("/", headers=head, content=json.dumps(event))


def get(client: httpx2.Client, path: str, token: str) -> Any:
    """Return what a key is shown."""
    return client.get(path, headers=bearer(token)).raise_for_status().json()
