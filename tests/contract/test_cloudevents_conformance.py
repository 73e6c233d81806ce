"""The cases of the public CloudEvents conformance features and of the Python SDK's tests, on our decoder and on ingest.

Their facts, not their words: tests/contract/cloudevents/conformance.json names where each is from. What is no JSON is
read by them and refused by name by us, and so is version 0.3.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from functions.adapters.cloud_events import Refused, decode
from functions.core.errors import RequestRefusedError
from functions.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import FunctionProcess, ServeFunction

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "cloudevents" / "conformance.json").read_text())
EACH = pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])


@pytest.fixture(scope="module")
def ingest(valkey: EmbeddedValkey, serve_function: ServeFunction) -> Iterator[FunctionProcess]:
    """A running ingest."""
    with serve_function("ingest", Settings(redis_url=valkey.url, namespace="conformance", shards=4)) as process:
        yield process


def body_of(case: dict[str, Any]) -> bytes:
    """Return the bytes of a case's body."""
    return base64.b64decode(case["body_base64"]) if "body_base64" in case else str(case["body"]).encode()


@EACH
def test_an_event_is_read_as_the_conformance_cases_have_it(case: dict[str, Any]) -> None:
    """Its attributes and its data, or what is wrong with it and where."""
    headers = {name.lower(): value.encode().decode("latin-1") for name, value in case["headers"].items()}
    expect = case["expect"]
    if isinstance(expect, dict):
        with pytest.raises(RequestRefusedError) as refusal:
            decode(headers, body_of(case))
        assert (expect["status"], expect["code"]) == (refusal.value.status, refusal.value.code)
        return
    found = [
        {"id": event.id, "faults": [[fault.code, fault.pointer] for fault in event.faults]}
        if isinstance(event, Refused)
        else {"attributes": event.attributes, "data": event.data}
        for event in decode(headers, body_of(case))
    ]
    assert expect == found


@EACH
def test_ingest_answers_accordingly(ingest: FunctionProcess, case: dict[str, Any]) -> None:
    """Over HTTP: each event by name, with the faults of its attributes; its data, no app event, is another matter."""
    headers = {name: value.encode() for name, value in case["headers"].items()}
    reply = httpx2.post(ingest.url, content=body_of(case), headers=headers, timeout=10, trust_env=False)
    expect = case["expect"]
    if isinstance(expect, dict):
        assert (expect["status"], expect["code"]) == (reply.status_code, reply.json()["code"])
        return
    assert reply.status_code == (400 if expect else 202)
    answers = reply.json()["events"]
    wanted = [event for each in expect for event in ([each] * len(each["data"]) if is_list(each) else [each])]
    assert len(wanted) == len(answers)
    for event, answer in zip(wanted, answers, strict=True):
        faults = [[fault["code"], fault["pointer"]] for fault in answer["faults"]]
        if "faults" in event:
            assert (event["id"], event["faults"]) == (answer["id"], faults)
        else:
            assert answer["id"].startswith(event["attributes"]["id"])
            assert not [pointer for _, pointer in faults if pointer.startswith("/ce-")]


def is_list(event: dict[str, Any]) -> bool:
    """Tell whether an event stands for many."""
    return isinstance(event.get("data"), list)
