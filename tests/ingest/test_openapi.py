"""The published page: valid, true to the server, with examples that work, and with every code that there is."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import httpx2
import jsonschema
import jsonschema_rs
import pytest
from referencing import Registry, Resource

from functions.ingest.openapi import SCHEMAS, openapi_page
from functions.ingest.verdicts import Verdict
from tests.codes_in_source import REFUSALS, ROOT, codes_in_source, codes_under

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.core.settings import Settings
    from tests.conftest import FunctionProcess, ServeFunction

FOLDER = ROOT / "functions" / "core" / "schemas"
FILES = {name: json.loads((FOLDER / name).read_text()) for name in SCHEMAS}
REGISTRY: Registry[Any] = Registry().with_resources(
    [(name, Resource.from_contents(schema)) for name, schema in FILES.items()]
)
CE = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/phone/7", "ce-type": "flyertime.app.event"}
BINARY = "application/json"

ELSEWHERE = {
    "bad_target": "ends the process at its start",
    "no_write_keys": "ends the process at its start",
    "bad_run_name": "trigger's",
    "sink_refused": "on the way to trigger; the sender never hears of it",
    "sink_unavailable": "on the way to trigger; the sender never hears of it",
    "no_such_entry": "the command line's",
    "quarantine_format": "the command line's",
}
"""Codes in modules that ingest imports which no reply of ingest has, and why."""


@pytest.fixture(scope="module")
def served(serve_function: ServeFunction, ingest_settings: Settings) -> Iterator[FunctionProcess]:
    """Ingest with a short limit of its own."""
    with serve_function("ingest", ingest_settings, FLYERTIME_MAX_REQUEST_EVENTS="77") as process:
        yield process


@pytest.fixture(scope="module")
def page(served: FunctionProcess) -> dict[str, Any]:
    """The page as it is served."""
    reply = httpx2.get(f"{served.url}/openapi.json", trust_env=False)
    assert (200, "application/json") == (reply.status_code, reply.headers["content-type"])
    found: dict[str, Any] = reply.json()
    return found


def test_every_code_of_a_fault_is_published() -> None:
    """The source, the schema and the document have the same ones."""
    schema = set(FILES["verdicts.json"]["$defs"]["fault"]["properties"]["code"]["enum"])

    assert codes_in_source("ingest", ["Fault"]) == schema
    assert codes_under("ingest.md", "### Faults of events") == schema


def test_every_code_of_a_refusal_is_published() -> None:
    """The source, the schema and the document have the same ones; none of those left out is one after all."""
    schema = set(FILES["problem.json"]["properties"]["code"]["enum"])
    source = codes_in_source("ingest", REFUSALS)

    assert source - set(ELSEWHERE) == schema
    assert source >= set(ELSEWHERE)
    assert codes_under("ingest.md", "### Refusals of requests") == schema


def test_the_verdicts_are_those_of_the_code() -> None:
    """In the schema, each by its name."""
    assert [verdict.value for verdict in Verdict] == FILES["verdicts.json"]["$defs"]["verdict"]["properties"][
        "verdict"
    ]["enum"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_its_examples_fit(name: str) -> None:
    """By an independent validator, files referring to each other included."""
    schema = FILES[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema, registry=REGISTRY)

    for example in schema["examples"]:
        validator.validate(example)
    assert not validator.is_valid(5)


def test_the_page_has_the_limits_and_the_version_of_the_process(page: dict[str, Any]) -> None:
    """Who reads it reads what holds here; nothing refers to a file."""
    batch = page["paths"]["/"]["post"]["requestBody"]["content"]["application/cloudevents-batch+json"]["schema"]
    references = set(re.findall(r'"\$ref": "([^"]*)"', json.dumps(page)))

    assert 77 == batch["maxItems"]
    assert re.fullmatch(r"\d+\.\d+.*", page["info"]["version"])
    assert [] == page["security"]
    for reference in references:
        place: Any = page
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_limits_and_keys_are_those_of_the_settings(settings: Settings) -> None:
    """A longer field, and keys that are asked for."""
    import dataclasses  # noqa: PLC0415

    own = dataclasses.replace(settings, max_field_bytes=50, write_auth="keys")
    page = json.loads(openapi_page(own, "1.2.3"))

    assert 50 == page["components"]["schemas"]["Event"]["$defs"]["text"]["maxLength"]
    assert ([{"writeKey": []}], "1.2.3") == (page["security"], page["info"]["version"])


def examples(page: dict[str, Any], path: str) -> list[tuple[str, str, Any]]:
    """Return media type, name and value of each example of a request."""
    return [
        (media_type, name, example["value"])
        for media_type, content in page["paths"][path]["post"]["requestBody"]["content"].items()
        for name, example in content["examples"].items()
    ]


def test_every_example_request_is_taken_and_answered_as_published(
    served: FunctionProcess, page: dict[str, Any]
) -> None:
    """Sent as it stands; the reply is what the page says of its status."""
    for path, wanted in (("/", {202}), ("/api/process", {200})):
        operation = page["paths"][path]["post"]
        for media_type, name, value in examples(page, path):
            headers = {"content-type": media_type, **(CE if path == "/" and media_type == BINARY else {})}
            reply = httpx2.post(served.url + path, json=value, headers=headers, trust_env=False)
            assert reply.status_code in wanted, (name, reply.text)
            answer = operation["responses"][str(reply.status_code)]["content"]["application/json"]["schema"]
            validator_of(page, answer).validate(reply.json())


def validator_of(page: dict[str, Any], schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """Return a validator of a schema within the page."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": page["components"]})


def test_every_example_reply_fits_its_schema(page: dict[str, Any]) -> None:
    """Those in the responses."""
    checked = 0
    for response in page["components"]["responses"].values():
        for content in response.get("content", {}).values():
            for example in content.get("examples", {}).values():
                validator_of(page, content["schema"]).validate(example["value"])
                checked += 1
    assert checked >= 5


def test_real_refusals_fit_their_schema(served: FunctionProcess, page: dict[str, Any]) -> None:
    """Problem details with the words of the status, and verdicts with faults."""
    problem = validator_of(page, {"$ref": "#/components/schemas/Problem"})
    for status, body, headers in (
        (400, "{", {"content-type": "application/cloudevents+json"}),
        (415, "x", {"content-type": "text/plain"}),
        (413, json.dumps([1] * 78), {"content-type": "application/cloudevents-batch+json"}),
    ):
        reply = httpx2.post(served.url, content=body, headers=headers, trust_env=False)
        assert (status, "application/problem+json") == (reply.status_code, reply.headers["content-type"])
        problem.validate(reply.json())
    reply = httpx2.post(served.url, json=5, headers={"content-type": "application/cloudevents+json"}, trust_env=False)
    validator_of(page, {"$ref": "#/components/schemas/Verdicts"}).validate(reply.json())
    assert 400 == reply.status_code


def test_the_page_is_only_read(served: FunctionProcess) -> None:
    """Other methods are refused with those that would do."""
    reply = httpx2.post(f"{served.url}/openapi.json", trust_env=False)

    assert (405, "GET, HEAD") == (reply.status_code, reply.headers["allow"])
    assert 200 == httpx2.head(f"{served.url}/openapi.json", trust_env=False).status_code
