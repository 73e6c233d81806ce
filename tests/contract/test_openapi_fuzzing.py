"""Requests made from the published page, and unlike it: every answer is one that the page has, and none is an echo."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from functions.core.access import AccessKey, sha256_of
from functions.core.settings import Settings
from tests.openapi_checks import CHECKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import FunctionProcess, ServeFunction

TOKEN = "ftw_fuzzing-0123456789abcdef"
SENTINEL = "never-to-be-seen-again"
OPERATIONS = {
    ("POST", "/"): 150,
    ("OPTIONS", "/"): 20,
    ("POST", "/api/process"): 100,
    ("OPTIONS", "/api/process"): 10,
    ("GET", "/api/health"): 5,
    ("GET", "/healthz"): 3,
    ("GET", "/readyz"): 3,
    ("GET", "/metrics"): 3,
    ("GET", "/openapi.json"): 3,
}
"""Each operation of the page, and the number of requests that are made of it, each way."""


@pytest.fixture(scope="module")
def ingest(valkey: EmbeddedValkey, serve_function: ServeFunction) -> Iterator[FunctionProcess]:
    """A running ingest that asks for keys, with small limits."""
    keyed = Settings(
        redis_url=valkey.url, namespace="fuzzing", shards=4, write_keys=AccessKey("fuzz", sha256_of(TOKEN)).line
    )
    limits = {"FLYERTIME_MAX_BODY_BYTES": "4000", "FLYERTIME_MAX_REQUEST_EVENTS": "20", "FLYERTIME_MAX_WAIT_S": "0"}
    with serve_function("ingest", keyed, **limits) as process:
        yield process


@pytest.fixture(scope="module")
def page(ingest: FunctionProcess) -> Any:
    """The page as schemathesis reads it."""
    raw = httpx2.get(f"{ingest.url}/openapi.json", trust_env=False).json()
    schema = schemathesis.openapi.from_dict(raw)
    schema.config.update(base_url=ingest.url)
    return schema


def test_every_operation_of_the_page_is_tried(page: Any) -> None:
    """None is forgotten here."""
    assert set(OPERATIONS) == {(each.ok().method.upper(), each.ok().path) for each in page.get_all_operations()}


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        (method, path, mode)
        for method, path in OPERATIONS
        for mode in GenerationMode
        if method == "POST" or mode is GenerationMode.POSITIVE  # the others take no input that could be wrong
    ],
    ids=str,
)
def test_every_answer_is_one_that_the_page_has(
    ingest: FunctionProcess, page: Any, method: str, path: str, mode: GenerationMode
) -> None:
    """Whatever is sent: status, media type, headers and body as published; in time; nothing of the headers in it."""
    operation = page[path][method]
    statuses: Counter[int] = Counter()
    secret = {"authorization": f"Bearer {TOKEN}", "cookie": f"a={SENTINEL}", "x-forwarded-for": SENTINEL}
    if (path, method) == ("/metrics", "GET"):
        del secret["x-forwarded-for"]

    @given(operation.as_strategy(generation_mode=mode))
    @settings(max_examples=OPERATIONS[method, path], database=None, suppress_health_check=list(HealthCheck))
    def try_one(case: Any) -> None:
        response = case.call(headers=secret, timeout=10)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)
        assert SENTINEL not in response.text + str(response.headers)
        assert TOKEN not in response.text + str(response.headers)

    try_one()
    assert ingest.process.poll() is None
    assert "Traceback" not in ingest.log.read_text()
    if method == "POST":
        assert statuses[400]
    if mode is GenerationMode.POSITIVE:
        assert 401 not in statuses
        assert {200, 202, 204} & set(statuses)
