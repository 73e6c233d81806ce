"""What ingest rejects is kept as it came, without credentials, and never at the expense of what it takes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from functions.adapters.redis_quarantine import Books, Entry, Quarantine
from functions.core.access import AccessKey, sha256_of
from functions.core.errors import Fault
from functions.core.event_columns import EventColumns
from functions.core.settings import Settings
from functions.ingest.quarantining import Quarantining
from functions.ingest.submissions import Refusal, Submissions

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from tests.conftest import FunctionProcess, MakeServer, ServeFunction

BATCH = {"content-type": "application/cloudevents-batch+json"}
TOKEN = "our-own-kind-of-token"


def keyed(settings: Settings) -> Settings:
    """Return settings under which ingest lets in who has TOKEN."""
    return replace(settings, write_keys=AccessKey("phones", sha256_of(TOKEN)).line)


def kept(settings: Settings) -> list[Entry]:
    """Return all entries of the quarantine."""

    async def read() -> list[Entry]:
        quarantine = Quarantine(settings)
        try:
            return [entry async for entry in quarantine.entries()]
        finally:
            await quarantine.close()

    return asyncio.run(read())


def books(settings: Settings) -> Books:
    """Return the books of the quarantine."""

    async def read() -> Books:
        quarantine = Quarantine(settings)
        try:
            return await quarantine.books()
        finally:
            await quarantine.close()

    return asyncio.run(read())


def post(process: FunctionProcess, events: object, path: str = "/", **headers: str) -> httpx2.Response:
    """Post a batch, or an array to another path."""
    kind = BATCH if path == "/" else {"content-type": "application/json"}
    return httpx2.post(
        process.url + path, content=json.dumps(events), headers={**kind, **headers}, timeout=20, trust_env=False
    )


def test_a_rejected_event_is_kept_as_it_came(
    settings: Settings, serve_function: ServeFunction, structured: Any
) -> None:
    """With every fault, its name and its key; the reply says under which id; what was taken is not there."""
    bad = structured("bad", data={"user_id": 7, "note": "naïve"}, subject="s")
    with serve_function("ingest", keyed(settings)) as ingest:
        reply = post(ingest, [structured("good"), bad], authorization=f"Bearer {TOKEN}").json()

    (entry,) = kept(settings)
    good, rejected = reply["events"]
    assert (1, 1, 1) == (reply["accepted"], reply["rejected"], reply["quarantined"])
    assert entry.id == rejected["quarantine_id"]
    assert "quarantine_id" not in good
    assert bad == entry.record.received
    assert (bad["id"], "/tests", "phones", None, False) == (
        entry.record.event_id, entry.record.source, entry.record.key, entry.record.position, entry.record.changed,
    )  # fmt: skip
    assert [fault["code"] for fault in rejected["faults"]] == [fault.code for fault in entry.record.faults]
    assert abs(time.time() - entry.received_ms / 1000) < 60


@pytest.mark.parametrize(
    ("content_type", "body", "received"),
    [
        ("application/json", b'{"user_id": 7}', {"data": {"user_id": 7}}),
        ("application/json", b"{", {"data": "{"}),
        ("text/plain", b"hello", {"data": "hello"}),
        (
            "application/octet-stream",
            b"\xff\x00",
            {"data_base64": base64.b64encode(b"\xff\x00").decode()},
        ),
        ("application/json", b"", {"data": None}),
    ],
)
def test_a_binary_event_is_kept_in_the_json_format(
    content_type: str, body: bytes, received: dict[str, Any], settings: Settings, serve_function: ServeFunction
) -> None:
    """Its attributes and its data, whatever that is; of its other headers nothing."""
    headers = {
        "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "cookie": "c=1", "x-secret": "hush",
        "authorization": "Basic YW5uOmh1bnRlcjI=",
    }  # fmt: skip
    with serve_function("ingest", settings) as ingest:
        reply = httpx2.post(
            ingest.url, content=body, headers={**headers, "content-type": content_type}, trust_env=False
        )

    (entry,) = kept(settings)
    assert (400, 1) == (reply.status_code, reply.json()["quarantined"])
    attributes = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "datacontenttype": content_type}
    assert {**attributes, **received} == entry.record.received


def test_items_of_lists_are_kept_one_by_one(
    settings: Settings, serve_function: ServeFunction, structured: Any, app_event: Any
) -> None:
    """Of a list in data, and of a raw array with and without a name."""
    with serve_function("ingest", settings) as ingest:
        event = structured("list", data=[app_event(), {"user_id": "a"}])
        post(ingest, [event])
        post(ingest, [app_event(), {"user_id": "b"}], "/api/process", **{"idempotency-key": "k"})
        reply = post(ingest, [{"user_id": "c"}], "/api/process")

    listed, named, nameless = (entry.record for entry in kept(settings))
    assert ({**event, "id": f"{event['id']}#1", "data": {"user_id": "a"}}, 1, False) == (
        listed.received, listed.position, listed.raw,
    )  # fmt: skip
    assert ("k#1", {"user_id": "b"}, 1, True) == (named.event_id, named.received, named.position, named.raw)
    assert (None, {"user_id": "c"}, True) == (nameless.event_id, nameless.received, nameless.raw)
    assert reply.json()["events"][0]["quarantine_id"]


def test_no_credential_is_ever_kept(
    settings: Settings, serve_function: ServeFunction, structured: Any, raw_redis: redis.Redis
) -> None:
    """Not the key it came with, wherever it stands; nothing that looks like one, or stands under such a name."""
    data = {"user_id": None, "note": f"sent with {TOKEN}", TOKEN: 1, "password": "hunter2", "h": "Bearer " + "s" * 30}
    with serve_function("ingest", keyed(settings)) as ingest:
        headers = {"authorization": f"Bearer {TOKEN}", "cookie": "session=crumbs"}
        reply = post(ingest, [structured("1", data=data, apikey="swordfish")], **headers)
        assert 1 == reply.json()["quarantined"]
        log = ingest.log.read_text()

    held = str(raw_redis.xrange(f"{{{settings.namespace}}}:quarantine"))
    for secret in (TOKEN, "hunter2", "ssss", "swordfish", "crumbs"):
        assert secret not in held + log + reply.text
    assert kept(settings)[0].record.changed


def test_no_credential_is_kept_in_whatever_form_it_comes(
    settings: Settings, serve_function: ServeFunction, structured: Any, raw_redis: redis.Redis
) -> None:
    """The key from the query; deep within data, in names, in packed data, in what is no JSON, in an address."""
    secrets = {"a": [{"sessionToken": "hunter2", "note": f"by {TOKEN}"}], TOKEN: 1}
    encoded = base64.b64encode(json.dumps(secrets).encode()).decode()
    events = [
        structured("deep", data=secrets),
        {key: value for key, value in structured("packed", data_base64=encoded).items() if key != "data"},
        structured(TOKEN, source="https://ann:hunter2@shop.example/x?access_token=hunter2", data={}),
        structured("name", data={}, **{TOKEN: 1}),
        structured("form", data=f"user=ann&password=hunter2&by={TOKEN}"),
    ]
    with serve_function("ingest", keyed(settings)) as ingest:
        kept_events = post(ingest, events, f"/?access_token={TOKEN}", **BATCH).json()["quarantined"]
        binary = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
        for body in (f'{{"user_id": "ann", "password": "hunter2", "by": "{TOKEN}', "\xff password=hunter2"):
            reply = httpx2.post(
                f"{ingest.url}/?access_token={TOKEN}",
                content=body.encode("latin-1"),
                headers={**binary, "content-type": "application/json"},
                trust_env=False,
            )
            kept_events += reply.json()["quarantined"]
        log = ingest.log.read_text()

    assert 7 == kept_events == len(kept(settings))
    held = str([raw_redis.xrange(f"{{{settings.namespace}}}:quarantine"), log])
    for record in (entry.record for entry in kept(settings)):
        assert record.changed
        if isinstance(record.received, dict) and "data_base64" in record.received:
            held += str(base64.b64decode(record.received["data_base64"]))
    assert TOKEN not in held
    assert "hunter2" not in held


def test_a_sender_that_retries_what_is_rejected_fills_nothing(
    settings: Settings, serve_function: ServeFunction, structured: Any
) -> None:
    """The same event is kept once, and answered with the same id."""
    with serve_function("ingest", settings) as ingest:
        replies = [post(ingest, [structured("1", data={})]).json() for _ in range(3)]

    assert 1 == len({reply["events"][0]["quarantine_id"] for reply in replies})
    assert 1 == len(kept(settings))


def test_what_is_too_large_or_too_much_is_told(
    settings: Settings, serve_function: ServeFunction, structured: Any
) -> None:
    """The reply counts what is kept; the metrics say why the rest is not."""
    limits = {
        "FLYERTIME_QUARANTINE_MAX_EVENTS": "10",
        "FLYERTIME_QUARANTINE_MAX_EVENT_BYTES": "2000",
        "FLYERTIME_METRICS": "on",
    }
    with serve_function("ingest", settings, **limits) as ingest:
        events = [structured(str(i), data={"filling": "x" * (3000 if i < 2 else 1)}) for i in range(17)]
        reply = post(ingest, events).json()
        metrics = httpx2.get(f"{ingest.url}/metrics", trust_env=False).text

    assert (17, 15) == (reply["rejected"], reply["quarantined"])
    assert ["quarantine_id" in event for event in reply["events"]] == [False] * 2 + [True] * 15
    for line in (
        'flyertime_quarantine_events_total{result="kept"} 15.0',
        'flyertime_quarantine_events_total{result="too_large"} 2.0',
        "flyertime_quarantined_events 10.0",
        'flyertime_quarantine_booked_events_total{state="kept"} 15.0',
        'flyertime_quarantine_booked_events_total{state="over_share"} 5.0',
    ):
        assert f"\n{line}\n" in metrics


def test_one_request_has_so_many_kept_and_no_more(
    settings: Settings, serve_function: ServeFunction, structured: Any
) -> None:
    """A thousand events; the verdicts are for all."""
    with serve_function("ingest", settings) as ingest:
        reply = post(ingest, [structured(str(i), data={}) for i in range(1500)]).json()

    assert (1500, 1000) == (reply["rejected"], reply["quarantined"])
    assert 1000 == books(settings).events


def test_a_process_keeps_so_many_a_second(settings: Settings) -> None:
    """A burst at once, and then a thousand a second; what is beyond is rejected all the same."""
    now_s = 1000.0

    async def flood() -> list[int]:
        nonlocal now_s
        quarantining = Quarantining(settings, clock=lambda: now_s)
        try:
            kept_events = []
            for request, pause_s in enumerate((0, 0, 0, 0, 0, 0, 0.25, 0, 1000)):
                now_s += pause_s
                refused = {place: Refusal((Fault("c", "/p", "r"),), f"{request} {place}") for place in range(1000)}
                submissions = Submissions([None] * 1000, EventColumns(), [], refused)
                kept_events.append(len(await quarantining.keep(submissions, key=None, token=None)))
            return kept_events
        finally:
            await quarantining.close()

    assert [1000] * 5 + [0, 250, 0, 1000] == asyncio.run(flood())


def test_nothing_is_kept_where_that_is_off_or_not_wanted(
    settings: Settings, serve_function: ServeFunction, structured: Any
) -> None:
    """By setting, and by who has the event anyway."""
    with serve_function("ingest", settings, FLYERTIME_QUARANTINE_MAX_EVENTS="0") as ingest:
        assert 0 == post(ingest, [structured("1", data={})]).json()["quarantined"]
    with serve_function("ingest", settings) as ingest:
        assert 0 == post(ingest, [structured("1", data={})], prefer="quarantine=no").json()["quarantined"]

    assert [] == kept(settings)


def test_a_flood_of_garbage_leaves_the_good_events_their_way(
    settings: Settings, serve_function: ServeFunction, structured: Any, app_event: Any
) -> None:
    """Beside it every good event is accepted, and what others had rejected before stays."""
    with serve_function("ingest", settings, FLYERTIME_QUARANTINE_MAX_EVENTS="100") as ingest:
        post(ingest, [structured("other", data=app_event(timestamp="yesterday"))])

        def garbage(sender: int) -> set[int]:
            names = [(f"{sender}-{i}-{j}", f"/phone/{i}") for i in range(10) for j in range(50)]
            batches = [names[start : start + 50] for start in range(0, 500, 50)]
            events = [[structured(name, source=source, data={}) for name, source in batch] for batch in batches]
            return {post(ingest, batch).status_code for batch in events}

        def good(sender: int) -> int:
            return sum(post(ingest, [structured(f"good-{sender}-{i}")]).json()["accepted"] for i in range(50))

        with ThreadPoolExecutor(6) as pool:
            bad, fine = [pool.submit(garbage, i) for i in range(3)], [pool.submit(good, i) for i in range(2)]
            assert {400} == set().union(*(each.result() for each in bad))
            assert [50, 50] == [each.result() for each in fine]

    entries = kept(settings)
    assert "bad_timestamp" in {entry.record.faults[0].code for entry in entries}
    assert 100 == len(entries)


def test_a_store_that_is_away_costs_a_rejected_event_its_place_and_not_its_verdict(
    make_server: MakeServer, serve_function: ServeFunction, structured: Any
) -> None:
    """Paused or gone: the sender is told at once what is wrong with the event, and that it is not kept."""
    with make_server() as server:
        settings = Settings(redis_url=server.url, shards=4)
        with serve_function("ingest", settings, FLYERTIME_METRICS="on") as ingest:
            assert 1 == post(ingest, [structured("1", data={})]).json()["quarantined"]
            os.kill(server.pid, signal.SIGSTOP)
            try:
                started_s = time.monotonic()
                reply = post(ingest, [structured("2", data={})])
                took_s = time.monotonic() - started_s
            finally:
                os.kill(server.pid, signal.SIGCONT)
            late = post(ingest, [structured("late", data={})]).json()["events"][0]
            assert "late" in str({entry.id: entry for entry in kept(settings)}[late["quarantine_id"]].record.event_id)
            assert (400, 1, 0) == (reply.status_code, reply.json()["rejected"], reply.json()["quarantined"])
            assert took_s < 5
            server.kill()
            reply = post(ingest, [structured("3", data={})])
            assert (400, 0) == (reply.status_code, reply.json()["quarantined"])
            server.start()
            deadline_s = time.monotonic() + 10
            while not post(ingest, [structured("4", data={})]).json()["quarantined"]:
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
            last = post(ingest, [structured("5", data={})]).json()["events"][0]
            assert last["id"] == {entry.id: entry for entry in kept(settings)}[last["quarantine_id"]].record.event_id
            metrics = httpx2.get(f"{ingest.url}/metrics", trust_env=False).text

    assert 'flyertime_quarantine_events_total{result="unavailable"}' in metrics
    assert 'flyertime_quarantine_events_total{result="unavailable"} 0.0' not in metrics


def test_a_list_sent_again_by_its_items_counts_once(
    settings: Settings, serve_function: ServeFunction, structured: Any, app_event: Callable[..., dict[str, Any]]
) -> None:
    """An item with its position is the same event as in its list, in each mode; with a wrong one it is none."""
    whole = structured("list", data=[app_event(user_id="a"), app_event(user_id="b")])
    with serve_function("ingest", settings) as ingest:
        assert 2 == post(ingest, [whole]).json()["accepted"]
        items = [structured(f"list#{i}", data=app_event(user_id="ab"[i]), flyertimeposition=i) for i in range(2)]
        assert ["duplicate"] * 2 == [event["verdict"] for event in post(ingest, items).json()["events"]]
        headers = {f"ce-{name}": str(value) for name, value in items[1].items() if name != "data"}
        binary = httpx2.post(ingest.url, json=items[1]["data"], headers=headers, trust_env=False)
        assert 1 == binary.json()["duplicate"]
        for wrong in (0, -1, True, "x", "01", 10**10):
            (answer,) = post(ingest, [{**items[1], "flyertimeposition": wrong}]).json()["events"]
            assert ("rejected", "/ce-flyertimeposition") == (answer["verdict"], answer["faults"][0]["pointer"])
        new = structured("list#2", data=app_event(user_id="c"), flyertimeposition=2)
        assert 1 == post(ingest, [new]).json()["accepted"]
        longer = {**whole, "data": [*whole["data"], app_event(user_id="c")]}
        assert 3 == post(ingest, [longer]).json()["duplicate"]

        array = [app_event(user_id="a")]
        assert 200 == post(ingest, array, "/api/process", **{"idempotency-key": "k"}).status_code
        item = {**structured(), "id": "k#0", "source": "idempotency-key", "flyertimeposition": 0}
        assert 1 == post(ingest, [item]).json()["duplicate"]
