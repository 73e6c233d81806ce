"""Who may write."""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from click.testing import CliRunner

from functions.cli import main
from functions.core.access import AccessKey, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.core.settings import Settings
    from tests.conftest import FunctionProcess, ServeFunction

KEYS = (AccessKey("phones", sha256_of("ftw_phones")), AccessKey("till", sha256_of("ftw_till"), "/till"))


@pytest.fixture(scope="module")
def guarded(serve_function: ServeFunction, ingest_settings: Settings) -> Iterator[FunctionProcess]:
    """Ingest with two keys, one of them bound to a source."""
    settings = dataclasses.replace(ingest_settings, write_keys="\n".join(key.line for key in KEYS))
    with serve_function("ingest", settings) as process:
        yield process


def post(process: FunctionProcess, event: object, path: str = "/", **headers: str) -> httpx2.Response:
    """Post an event in structured mode, or an array."""
    kind = "application/json" if isinstance(event, list) else "application/cloudevents+json"
    headers = {"content-type": kind, **headers}
    return httpx2.post(process.url + path, content=json.dumps(event), headers=headers, timeout=10, trust_env=False)


def test_who_has_a_key_may_write(guarded: FunctionProcess, structured: Any) -> None:
    """By the bearer scheme, in any case."""
    assert 202 == post(guarded, structured("1"), authorization="Bearer ftw_phones").status_code
    assert 202 == post(guarded, structured("2"), authorization="bearer ftw_phones").status_code


@pytest.mark.parametrize("path", ["/", "//", "/api/process", "/api/process/", "/?x=1", "/?access_token=ftw_stolen"])
@pytest.mark.parametrize(
    "authorization", ["Bearer ftw_stolen", "Basic ftw_phones", "ftw_phones", "Bearer", "Bearer ftw_phonesx"]
)
def test_everybody_else_may_not(guarded: FunctionProcess, structured: Any, path: str, authorization: str) -> None:
    """401 with a challenge; what was sent is not repeated, in the reply or in the log."""
    event = [] if "process" in path else structured()
    refused = post(guarded, event, path, authorization=authorization)

    assert (401, 'Bearer realm="flyertime"') == (refused.status_code, refused.headers["www-authenticate"])
    assert refused.json()["code"] in {"no_write_key", "unknown_write_key"}
    assert "ftw_stolen" not in refused.text + guarded.log.read_text()
    assert "ftw_phones" not in guarded.log.read_text()


def test_a_sender_that_can_set_no_header_puts_its_key_into_the_query(guarded: FunctionProcess, structured: Any) -> None:
    """As the CloudEvents webhook specification has it; the header counts where there is one; no key is logged."""
    taken = post(guarded, structured("q1"), "/?a=b&access_token=ftw_phones")
    bound = post(guarded, structured("q2", source="/phone"), "/?access_token=ftw_till")
    header = post(guarded, structured("q3"), "/?access_token=ftw_stolen", authorization="Bearer ftw_phones")
    wrong = [
        post(guarded, structured("q4"), path)
        for path in ("/?access_token=ftw_stolen", "/?access_token=", "/?access_token=ftw_phones&access_token=ftw_till")
    ]

    assert [202, 400, 202] == [reply.status_code for reply in (taken, bound, header)]
    assert "source_not_allowed" == bound.json()["events"][0]["faults"][0]["code"]
    assert [401] * 3 == [reply.status_code for reply in wrong]
    assert "ftw_" not in guarded.log.read_text()


def test_health_is_everybodys(guarded: FunctionProcess) -> None:
    """Probes have no keys, nor have browsers when they ask before they send, nor who reads how to send."""
    for path in ("/api/health", "/healthz", "/readyz", "/openapi.json"):
        assert 200 == httpx2.get(guarded.url + path, trust_env=False).status_code
    for path in ("/", "/api/process"):
        assert 204 == httpx2.options(guarded.url + path, trust_env=False).status_code


def test_a_bound_key_writes_for_its_source_alone(guarded: FunctionProcess, structured: Any, app_event: Any) -> None:
    """Each event of another source is rejected by name, and the others are taken; an array has no source."""
    batch = [structured("1", source="/till/7"), structured("2", source="/phone")]
    headers = {"content-type": "application/cloudevents-batch+json", "authorization": "Bearer ftw_till"}
    events = httpx2.post(guarded.url, content=json.dumps(batch), headers=headers, trust_env=False).json()["events"]

    assert ["accepted", "rejected"] == [event["verdict"] for event in events]
    assert "source_not_allowed" == events[1]["faults"][0]["code"]
    refused = post(guarded, [app_event()], "/api/process", authorization="Bearer ftw_till")
    assert (403, "source_not_allowed") == (refused.status_code, refused.json()["code"])


def request_of(kind: str, source: str, data: Any) -> dict[str, Any]:
    """Return an event of a source as a request of some kind."""
    attributes = {"specversion": "1.0", "id": f"{kind}{source}#0", "source": source, "type": "t"}
    packed = base64.b64encode(json.dumps(data).encode()).decode()
    bodies = {
        "structured": {**attributes, "data": data},
        "one of which nobody knows an attribute": {**attributes, "x": "y", "data": data},
        "a list": {**attributes, "data": [data]},
        "base64": {**attributes, "data_base64": packed},
        "an item of a list": {**attributes, "data": data, "flyertimeposition": 0},
        "a batch": [{**attributes, "data": data}],
        "a batch of lists": [{**attributes, "data": [data]}],
    }
    if kind in bodies:
        media_type = "application/cloudevents-batch+json" if "batch" in kind else "application/cloudevents+json"
        return {"content": json.dumps(bodies[kind]), "headers": {"content-type": media_type}}
    headers = {f"ce-{name}": value for name, value in attributes.items()}
    if kind == "binary, encoded":
        headers["ce-source"] = "".join(f"%{byte:02X}" for byte in source.encode())
    if kind == "binary, in quotes":
        headers["ce-source"] = f'"{source}"'
    return {"json": [data] if kind == "binary, a list" else data, "headers": headers}


@pytest.mark.parametrize(
    "kind",
    [
        "structured", "one of which nobody knows an attribute", "a list", "base64", "an item of a list", "a batch",
        "a batch of lists", "binary", "binary, a list", "binary, encoded", "binary, in quotes",
    ],
)  # fmt: skip
def test_a_bound_key_is_bound_in_every_kind_of_request(guarded: FunctionProcess, kind: str, app_event: Any) -> None:
    """Whether the quick way takes it or the strict one."""
    verdicts = []
    for source in ("/till/7", "/tills", "/phone"):
        request = request_of(kind, source, app_event())
        request["headers"]["authorization"] = "Bearer ftw_till"
        reply = httpx2.post(guarded.url, timeout=10, trust_env=False, **request).json()
        codes = [fault["code"] for event in reply["events"] for fault in event.get("faults", ())]
        verdicts.append([*(event["verdict"] for event in reply["events"]), *codes])

    refused = ["rejected", "source_not_allowed"]
    assert [["accepted"], refused, refused] == verdicts


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "FLYERTIME_WRITE_AUTH=off"),
        ({"FLYERTIME_WRITE_KEYS": "ftw_secret"}, "FLYERTIME_WRITE_KEYS: key 1 must be"),
    ],
)
def test_ingest_does_not_start_without_saying_who_may_write(environment: dict[str, str], words: str) -> None:
    """Open to everybody only when told so by name; a token in the place of its hash is not repeated."""
    ended = subprocess.run(
        [sys.executable, "-c", "import functions.asgi"],
        env={"PATH": "", "FUNCTION_TARGET": "ingest", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode != 0
    assert words in ended.stderr
    assert "ftw_secret" not in ended.stderr


def test_a_new_key_is_printed_once_and_fits_its_line() -> None:
    """The token for the sender, the hash for the setting."""
    printed = CliRunner().invoke(main, ["keys", "new", "phones", "--source", "/phone"])
    token, line = (text.strip() for text in printed.output.splitlines()[1::2])

    assert token.startswith("ftw_")
    assert AccessKey("phones", sha256_of(token), "/phone").line == line
    assert 2 == CliRunner().invoke(main, ["keys", "new", "two words"]).exit_code


def test_a_key_may_be_limited_to_a_rate(
    serve_function: ServeFunction, ingest_settings: Settings, structured: Any, app_event: Any
) -> None:
    """Beyond it nothing of a request is taken, and the reply says when to come again; other keys go on."""
    slow = AccessKey("slow", sha256_of("ftw_slow"), rate_per_s=0.5, burst=10)
    settings = dataclasses.replace(ingest_settings, write_keys="\n".join(key.line for key in (*KEYS, slow)))
    ten = [app_event(user_id=f"u{number}") for number in range(10)]
    with serve_function("ingest", settings) as process:
        first = post(process, structured("1", data=ten), authorization="Bearer ftw_slow")
        second = post(process, structured("2", data=ten), authorization="Bearer ftw_slow")
        array = post(process, ten, "/api/process", authorization="Bearer ftw_slow")
        other = post(process, structured("2", data=ten), authorization="Bearer ftw_phones")

    assert (202, 10) == (first.status_code, first.json()["accepted"])
    assert [(429, "too_fast")] * 2 == [(refused.status_code, refused.json()["code"]) for refused in (second, array)]
    assert 15 <= int(second.headers["retry-after"]) <= 20
    assert (202, 10, 0) == (other.status_code, other.json()["accepted"], other.json()["duplicate"])


def test_the_command_makes_keys_with_a_rate() -> None:
    """Its line has rate and burst; a burst alone is refused."""
    made = CliRunner().invoke(main, ["keys", "new", "app", "--rate", "100", "--burst", "500", "--source", "/a:b"])
    alone = CliRunner().invoke(main, ["keys", "new", "app", "--burst", "500"])

    assert made.output.rstrip().endswith(":rate=100:burst=500:source=/a:b")
    assert (2, True) == (alone.exit_code, "--burst goes with --rate" in alone.output)
