"""A report asked for by a CloudEvent, and readers who wait for what is pending."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent, from_http

from functions.adapters.redis_shard import Change, Committed, ShardStore
from functions.adapters.redis_store import RedisStore, ShardBatch
from functions.core import event_types
from functions.core.access import sha256_of
from functions.core.events import Event
from functions.core.packing import pack_events
from functions.core.read_access import ReadKey
from functions.core.shards import Keys, shard_of
from tests.event_sink import Sink

if TYPE_CHECKING:
    import redis

    from functions.core.ledger import ShardLedger
    from functions.core.settings import Settings
    from tests.conftest import ServeFunction
    from tests.report.conftest import Put

HOUR_S = 3600


def ask(client: httpx2.Client, data: object, encode: Any = to_structured, **headers: str) -> httpx2.Response:
    """Send a request for a report."""
    event = CloudEvent({"type": event_types.REPORT_REQUESTED, "source": "/pipeline", "id": "42"}, data)
    head, body = encode(event)
    return client.post("/", headers={**head, **headers}, content=body)


@pytest.mark.parametrize("encode", [to_binary, to_structured])
def test_an_event_is_answered_with_the_summary_and_where_the_rows_are(
    report: httpx2.Client, put: Put, encode: Any
) -> None:
    """The answer is a CloudEvent whose id follows from the request's."""
    put({"a": (HOUR_S, 1)}, {"m": {"a": (HOUR_S, 1), "b": (HOUR_S, 2)}})
    answer = ask(report, {"merchant_id": "m", "query": {"min_sessions": 2}}, encode)
    event = from_http({**answer.headers}, answer.content)

    assert (200, event_types.REPORT_ANSWERED, "42-answered") == (answer.status_code, event["type"], event["id"])
    assert 2 == event.data["summary"]["users"]
    assert {"complete_through", "pending_events", "last_run", "next_run_by"} <= event.data.keys()
    assert ["b"] == [row["user_id"] for row in report.get(event.data["link"]).json()]


@pytest.mark.parametrize("merchant", ["..", ".", "a/../b", "%2e%2e"])
def test_the_link_of_an_event_leads_to_its_own_merchant(report: httpx2.Client, put: Put, merchant: str) -> None:
    """Also where a client would take its name for the way up."""
    put({"a": (9 * HOUR_S, 1)}, {merchant: {"a": (HOUR_S, 1), "b": (HOUR_S, 1)}})
    link = from_http(*parts(ask(report, {"merchant_id": merchant}))).data["link"]
    page = from_http(*parts(ask(report, {"merchant_id": merchant, "rows": True, "query": {"limit": 1}}))).data

    assert [1.0, 1.0] == [row["avg_time_on_flyer_per_user_hours"] for row in report.get(link).json()]
    assert [1.0] == [row["avg_time_on_flyer_per_user_hours"] for row in report.get(page["next"]).json()["rows"]]


def test_an_event_that_says_no_limit_gets_a_thousand_rows(report: httpx2.Client, put: Put) -> None:
    """And the way to the others, which the same limit holds for."""
    put({f"u{number}": (HOUR_S, 1) for number in range(1001)})
    data = from_http(*parts(ask(report, {"rows": True}))).data

    assert (1000, 1) == (len(data["rows"]), len(report.get(data["next"]).json()["rows"]))


def test_an_event_may_ask_for_the_rows(report: httpx2.Client, put: Put) -> None:
    """A page of them, with the way to the next one."""
    put({f"u{number}": (number * HOUR_S, 1) for number in range(9)})
    data = from_http(
        *parts(ask(report, {"rows": True, "query": {"limit": 4, "sort": "-hours", "fields": "user_id"}}))
    ).data

    assert ["u8", "u7", "u6", "u5"] == [row["user_id"] for row in data["rows"]]
    assert ["u4", "u3", "u2", "u1"] == [row["user_id"] for row in report.get(data["next"]).json()["rows"]]


def parts(answer: httpx2.Response) -> tuple[dict[str, str], bytes]:
    """Return what the events' library reads."""
    return {**answer.headers}, answer.content


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"merchant": "m"}, "bad_event"),
        ({"rows": "yes"}, "bad_event"),
        ([1], "bad_event"),
        ({"query": {"limit": 0}}, "bad_parameter"),
        ({"query": {"format": "csv"}}, "unknown_parameter"),
        ({"rows": True, "query": {"after": "x"}}, "bad_cursor"),
    ],
)
def test_an_event_that_asks_wrongly_is_refused(report: httpx2.Client, data: object, code: str) -> None:
    """With a 400, which a broker does not try again."""
    answer = ask(report, data)

    assert (400, code) == (answer.status_code, answer.json()["code"])


def test_an_event_s_address_takes_the_key_and_nothing_else(report: httpx2.Client) -> None:
    """What is asked stands in the event; in the address it would be overlooked."""
    head, body = to_structured(CloudEvent({"type": event_types.REPORT_REQUESTED, "source": "/p", "id": "1"}, {}))

    assert 200 == report.post("/?key=x", headers=head, content=body).status_code
    refused = report.post("/?min_sessions=2", headers=head, content=body)
    assert (400, "unknown_parameter") == (refused.status_code, refused.json()["code"])


def test_events_show_no_more_than_the_key_allows(
    serve_function: ServeFunction, report_settings: Settings, put: Put
) -> None:
    """A merchant's key asks for its own report alone, also by event."""
    put({"a": (9 * HOUR_S, 1)}, {"m": {"a": (HOUR_S, 1)}, "n": {"b": (HOUR_S, 1)}})
    line = ReadKey("m", sha256_of("ftr_m"), "m").line
    settings = dataclasses.replace(report_settings, read_keys=line, pseudonyms="off")
    with (
        serve_function("report", settings) as process,
        httpx2.Client(base_url=process.url, trust_env=False) as client,
    ):
        own = {"authorization": "Bearer ftr_m"}
        assert 401 == ask(client, {}).status_code
        for other in ("n", "nobody"):
            refused = ask(client, {"merchant_id": other}, **own)
            assert (403, "other_merchant") == (refused.status_code, refused.json()["code"])
        rows = from_http(*parts(ask(client, {"rows": True}, **own))).data["rows"]

    assert [{"user_id": "a", "avg_time_on_flyer_per_user_hours": 1.0}] == rows


@pytest.mark.parametrize("rows", [False, True])
def test_an_event_that_names_an_unknown_merchant_is_answered_as_its_address_is(
    report: httpx2.Client, put: Put, rows: bool
) -> None:
    """With the same problem, and how fresh that is; a merchant that comes is found."""
    put({"a": (HOUR_S, 1)}, {"m": {"a": (HOUR_S, 1)}})
    answer, by_address = ask(report, {"merchant_id": "no/body", "rows": rows}), report.get("/merchants/no%2Fbody")

    assert (404, "no_such_merchant") == (answer.status_code, answer.json()["code"])
    assert by_address.json() == answer.json()
    assert "ce-type" not in answer.headers
    assert "flyertime-complete-through" not in answer.headers.keys() ^ by_address.headers.keys()
    put(None, {"no/body": {"a": (HOUR_S, 1)}})
    assert 200 == ask(report, {"merchant_id": "no/body", "rows": rows}).status_code


def append(settings: Settings, user: str) -> int:
    """Put an event into the log, and return its shard."""
    shard = shard_of(user, settings.shards or 0)

    async def write() -> None:
        store = RedisStore(settings)
        event = Event(timestamp_us=0, user_id=user, event="flyer_open", flyer_id="f", merchant_id="m")
        await store.append([ShardBatch(shard, pack_events([event]), 1)], 0)
        await store.close()

    asyncio.run(write())
    return shard


def test_freshness_is_told_everywhere(report: httpx2.Client, report_settings: Settings, put: Put) -> None:
    """Headers on every answer, a 304 too; what is pending has a latest moment for the next run."""
    put({"a": (HOUR_S, 1)}, {"m": {"a": (HOUR_S, 1)}})
    append(report_settings, "a")
    for path in ("/", "/?limit=1", "/users/a", "/merchants", "/merchants/m", "/summary", "/merchants/m/summary"):
        answer = report.get(path)
        again = report.get(path, headers={"if-none-match": answer.headers["etag"]})
        for each in (answer, again):
            assert "1" == each.headers["flyertime-pending-events"], path
            assert each.headers["flyertime-complete-through"] < each.headers["flyertime-next-run-by"]
        assert (200, 304) == (answer.status_code, again.status_code)
        changed_us = max(shard.version for shard in books(report_settings))
        assert parsedate_to_datetime(answer.headers["last-modified"]).timestamp() == changed_us // 1_000_000
        assert {"private", "no-cache"} == {*answer.headers["cache-control"].split(", ")}
        assert {"accept", "accept-encoding", "authorization"} == {*answer.headers["vary"].split(", ")}
    for path in ("/users/nobody", "/merchants/nobody", "/merchants/nobody/summary"):
        none = report.get(path)
        assert (404, "1") == (none.status_code, none.headers["flyertime-pending-events"]), "it may still come"
    event = ask(report, {})
    assert "1" == event.headers["flyertime-pending-events"]
    body = report.get("/summary").json()["freshness"]
    page = report.get("/?limit=1").json()

    assert (1, body["complete_through"]) == (page["pending_events"], page["complete_through"])
    assert (1, None) == (body["pending_events"], body["last_run"])
    assert body["next_run_by"] > body["complete_through"]


def books(settings: Settings) -> list[ShardLedger]:
    """Return the shards' books."""
    store = ShardStore(settings)
    ledgers = [store.ledger(shard) for shard in range(settings.shards or 0)]
    store.close()
    return ledgers


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_the_last_run_is_told_everywhere(
    report: httpx2.Client, report_settings: Settings, put: Put, state: str
) -> None:
    """When it ended and how, in headers and in the body of summaries; no next run where nothing waits for one."""
    put({"a": (HOUR_S, 1)}, {"m": {"a": (HOUR_S, 1)}})
    store = ShardStore(report_settings)
    run = {
        "run": "r1", "state": state, "events": "7", "error": "",
        "started_at": "2026-03-02T08:00:00Z", "ended_at": "2026-03-02T08:00:30Z",
    }  # fmt: skip
    store.record_run(run)
    store.close()
    for path in ("/", "/?limit=1", "/users/a", "/merchants", "/merchants/m", "/summary", "/merchants/m/summary"):
        answer = report.get(path)
        again = report.get(path, headers={"if-none-match": answer.headers["etag"]})
        for each in (answer, again):
            told = (each.headers["flyertime-last-run"], each.headers["flyertime-last-run-state"])
            assert ("2026-03-02T08:00:30Z", state) == told
            assert ("0", None) == tuple(map(each.headers.get, ("flyertime-pending-events", "flyertime-next-run-by")))
        if path.endswith("summary"):
            shown = answer.json()["freshness"]
            assert {**{name: run[name] for name in run if name not in {"error", "events"}}, "events": 7} == shown[
                "last_run"
            ]


def test_a_reader_may_wait_for_what_is_pending(
    serve_function: ServeFunction, report_settings: Settings, report: httpx2.Client
) -> None:
    """A flush is asked for, of the sink too; the answer comes when what was pending has been folded."""
    shard = append(report_settings, "w")
    assert "1" == report.get("/").headers["flyertime-pending-events"]

    def fold() -> None:
        store = ShardStore(report_settings)
        ledger = store.ledger(shard)
        change = Change(shard, ledger.commits, ledger.newest_id or "", 1, True, {}, {})
        assert isinstance(store.commit(change), Committed)
        store.close()

    soon = {"FLYERTIME_READER_FLUSH_INTERVAL_S": "0"}
    hasty = {**soon, "FLYERTIME_MAX_WAIT_S": "1"}
    with (
        serve_function("report", report_settings, **hasty) as process,
        httpx2.Client(base_url=process.url, timeout=10, trust_env=False) as client,
        ThreadPoolExecutor(7) as pool,  # all at once: each waits for a second
    ):
        capped = pool.submit(client.get, "/", headers={"prefer": "wait=20"})
        event = pool.submit(ask, client, {}, prefer="wait=20")
        endless_headers = [("prefer", "respond-async"), ("prefer", f"wait={10**12}")]
        endless = pool.submit(client.get, "/", headers=endless_headers)
        paths = ("/users/nobody", "/merchants/nobody", "/merchants/nobody/summary")
        asked = [pool.submit(client.get, path, headers={"prefer": "wait=20"}) for path in paths]
        asked.append(pool.submit(ask, client, {"merchant_id": "nobody"}, prefer="wait=20"))
        nobody = [each.result() for each in asked]
    assert [404] * 4 == [answer.status_code for answer in nobody]
    for answer in (capped.result(), event.result(), endless.result(), *nobody):
        told = (answer.headers["preference-applied"], answer.headers["flyertime-folded"])
        assert ("wait=1", "false") == told, "no longer than the setting allows"
    with (
        Sink() as sink,
        serve_function("report", report_settings, K_SINK=sink.url, **soon) as process,
        ThreadPoolExecutor(1) as pool,
    ):
        late = httpx2.get(process.url, headers={"prefer": "wait=1"}, timeout=30, trust_env=False)
        flushes = [sink.next().type]
        waiting = pool.submit(httpx2.get, process.url, headers={"prefer": "wait=20"}, timeout=30, trust_env=False)
        flushes.append(sink.next().type)  # that reader waits now
        fold()
        done = waiting.result()
        none = httpx2.get(process.url, headers={"prefer": "wait=20"}, timeout=5, trust_env=False)

    assert ("false", "1") == (late.headers["flyertime-folded"], late.headers["flyertime-pending-events"])
    assert ("true", "0") == (done.headers["flyertime-folded"], done.headers["flyertime-pending-events"])
    assert "wait=20" == done.headers["preference-applied"]
    assert "true" == none.headers["flyertime-folded"]
    assert [event_types.FLUSH_REQUESTED] * 2 == flushes


def test_readers_who_wait_ask_for_one_flush_an_interval(
    serve_function: ServeFunction, report_settings: Settings, raw_redis: redis.Redis
) -> None:
    """However many come, to however many processes; who comes too soon is thought of when the interval is over."""
    append(report_settings, "w")
    slow = {"FLYERTIME_READER_FLUSH_INTERVAL_S": "300"}

    async def ask_all(urls: list[str]) -> list[httpx2.Response]:
        async with httpx2.AsyncClient(headers={"prefer": "wait=1"}, timeout=30, trust_env=False) as client:
            return list(await asyncio.gather(*(client.get(url) for url in urls)))

    pause = Keys(report_settings.namespace).flush_pause
    with (
        Sink() as sink,
        serve_function("report", report_settings, K_SINK=sink.url, **slow) as one,
        serve_function("report", report_settings, K_SINK=sink.url, **slow) as other,
    ):
        answers = asyncio.run(ask_all([one.url, other.url] * 10))
        assert {"false"} == {answer.headers["flyertime-folded"] for answer in answers}
        assert 1 == sink.received.qsize()
        life_ms: Any = raw_redis.pttl(pause)
        assert 0 < life_ms <= 300_000

        timer = threading.Timer(0.5, raw_redis.delete, [pause])  # the interval is over while a reader waits
        timer.start()
        httpx2.get(one.url, headers={"prefer": "wait=2"}, timeout=30, trust_env=False)
        timer.join()
        assert 2 == sink.received.qsize()
