"""Events as they should not be: each gets the answer that it should have, in time, and nothing of its headers back.

tests/contract/cloudevents/malformed.json has the inputs, among them all on which stock libraries answer 200 or 500,
with status and codes; raw_requests.json has what is no HTTP.
"""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from functions.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import FunctionProcess, ServeFunction

FOLDER = Path(__file__).parent / "cloudevents"
CASES: list[dict[str, Any]] = json.loads((FOLDER / "malformed.json").read_text())
RAW: list[dict[str, Any]] = json.loads((FOLDER / "raw_requests.json").read_text())
SENTINEL = "never-to-be-seen-again"


@pytest.fixture(scope="module")
def ingest(valkey: EmbeddedValkey, serve_function: ServeFunction) -> Iterator[FunctionProcess]:
    """A running ingest with small limits and little patience."""
    limits = {
        "FLYERTIME_MAX_BODY_BYTES": "20000",
        "FLYERTIME_MAX_REQUEST_EVENTS": "50",
        "FLYERTIME_BODY_TIMEOUT_S": "0.5",
        "FLYERTIME_ACCESS_LOG": "off",
    }
    settings = Settings(redis_url=valkey.url, namespace="malformed", shards=4)
    with serve_function("ingest", settings, **limits) as process:
        yield process
    assert "Traceback" not in process.log.read_text()


def body_of(case: dict[str, Any]) -> bytes:
    """Return the bytes of a case's body."""
    if "body_base64" in case:
        return base64.b64decode(case["body_base64"])
    if (repeat := case.get("repeat")) is not None:
        return str(repeat["prefix"] + repeat["unit"] * repeat["times"] + repeat["suffix"]).encode()
    return str(case["body"]).encode()


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_malformed_event_gets_the_answer_that_it_should_have(ingest: FunctionProcess, case: dict[str, Any]) -> None:
    """Its status and the code of each fault, as JSON of the published form; nothing of its headers is in it."""
    secret = {"cookie": f"a={SENTINEL}", "x-api-key": SENTINEL, "authorization": f"Bearer {SENTINEL}"}
    headers = {name: value.encode() for name, value in {**secret, **case["headers"]}.items()}
    reply = httpx2.post(ingest.url + case["path"], content=body_of(case), headers=headers, timeout=10, trust_env=False)
    answer = reply.json()

    if reply.headers["content-type"] == "application/problem+json":
        assert [case["status"], *case["codes"]] == [reply.status_code, answer["code"]], reply.text
    else:
        events = [] if isinstance(answer, list) else answer["events"]
        codes = [fault["code"] for event in events for fault in event.get("faults", ())]
        assert (case["status"], sorted(case["codes"])) == (reply.status_code, sorted(codes)), reply.text
    assert SENTINEL not in reply.text + str(reply.headers)
    assert len(reply.content) < 20_000


@pytest.mark.parametrize("case", RAW, ids=[case["name"] for case in RAW])
def test_what_is_no_proper_request_is_refused_or_hung_up_on(ingest: FunctionProcess, case: dict[str, Any]) -> None:
    """In time, without a 5xx, without an echo; the next connection is served."""
    unit, times = case.get("filling", ["", 0])
    sent = str(case["sent"]).replace("FILLING", unit * times)
    with socket.create_connection(("127.0.0.1", ingest.port), timeout=10) as connection:
        received = b""
        try:
            connection.sendall(sent.replace("SENTINEL", SENTINEL).encode("latin-1"))
            if case.get("ends"):
                connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(65536):
                received += more
                if case.get("kept_open") and b"\r\n\r\n" in received:
                    break
        except ConnectionError:
            pass

    status = received.partition(b" ")[2][:3].decode()
    if status[:1] == "4" and not sent.startswith("TRACE"):
        answer, _ = json.JSONDecoder().raw_decode(received.partition(b"\r\n\r\n")[2].decode())
        assert {"code", "events"} & set(answer)
    assert status in case["statuses"], received[:300]
    assert SENTINEL.encode() not in received
    assert 200 == httpx2.get(f"{ingest.url}/api/health", timeout=10, trust_env=False).status_code
