"""Who sees what: every route, format and key, made from the table of routes, so that none is left out."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import json
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from functions.adapters.redis_shard import ShardStore
from functions.core.access import sha256_of
from functions.core.event_types import REPORT_REQUESTED
from functions.core.events import Event
from functions.core.packing import pack_events
from functions.core.pseudonyms import Pseudonyms, is_pseudonym
from functions.core.read_access import ReadKey
from functions.core.report_query import FORMATS
from functions.core.shards import Keys, shard_of
from functions.report.routes import ROUTES, Answer, Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from functions.core.settings import Settings
    from tests.conftest import ServeFunction
    from tests.report.conftest import Put

MERCHANTS = ("acme", "zephyr/ü:1", "acme2")
ALL = "ftr_all"
TOKENS = {merchant: f"ftr_{place}" for place, merchant in enumerate(MERCHANTS)}
ACME, ZEPHYR, ACME2 = TOKENS.values()
KEYS = {ALL: None, **{token: merchant for merchant, token in TOKENS.items()}}
HOUR_S = 3600
LINES = "\n".join(
    ReadKey(f"k{place}", sha256_of(token), merchant).line for place, (token, merchant) in enumerate(KEYS.items())
)
OPEN = {Answer.DESCRIPTION}
"""What everybody may read."""


@pytest.fixture(scope="module")
def guarded(serve_function: ServeFunction, report_settings: Settings) -> Iterator[httpx2.Client]:
    """A client of a report that asks for keys."""
    settings = dataclasses.replace(report_settings, read_keys=LINES)
    with (
        serve_function("report", settings) as process,
        httpx2.Client(base_url=process.url, trust_env=False, timeout=30) as client,
    ):
        yield client


@pytest.fixture
def filled(guarded: httpx2.Client, raw_redis: redis.Redis, put: Put) -> httpx2.Client:
    """The client, and users whose ids tell whose flyers they read, and for how long."""
    from tests.report.conftest import empty  # noqa: PLC0415

    empty(raw_redis)
    merchants = {
        merchant: {f"user-of-{place}-{number}": ((place + 1) * HOUR_S, 1) for number in range(5)}
        for place, merchant in enumerate(MERCHANTS)
    }
    shared = {"shared": (HOUR_S, 1)}
    put(
        {
            **{user: totals for users in merchants.values() for user, totals in users.items()},
            "shared": (739 * 9 * HOUR_S, 9),
        },
        {merchant: {**users, **shared} for merchant, users in merchants.items()},
    )
    return guarded


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


def test_every_parameter_of_every_route_is_tried() -> None:
    """One that is added belongs into the variants above."""
    tried = {name for route in ROUTES for query in variants(route) for name in query}

    assert {name for route in ROUTES for name in route.parameters} - {"after", "key"} == tried


@pytest.mark.parametrize(("route", "query"), CASES)
def test_without_a_valid_key_there_is_nothing(filled: httpx2.Client, route: Route, query: dict[str, str]) -> None:
    """A 401 that says what to send, for no key, a wrong one, a hash, a name, and keys in the wrong place."""
    path = paths(route, MERCHANTS[0])
    if route.answer in OPEN:
        assert 200 == filled.get(path, params=query).status_code
        return
    wrong = [
        {}, bearer("ftr_wrong"), bearer("ftr_al"), bearer(sha256_of(ALL)), bearer("k0"), bearer("k0:" + sha256_of(ALL)),
        bearer("a.b.c"), {"authorization": "Bearer"}, {"authorization": ALL},
        {"x-api-key": ALL}, {"cookie": f"key={ALL}"},
    ]  # fmt: skip
    for headers in wrong:
        answer = filled.get(path, params=query, headers={**headers, "if-none-match": "*"})
        assert 401 == answer.status_code, headers
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "etag" not in answer.headers
        assert "user-of" not in answer.text
    assert 401 == filled.get(path, params={**query, "key": "ftr_wrong"}).status_code


@pytest.mark.parametrize(("route", "query"), CASES)
def test_a_merchant_s_key_shows_that_merchant_alone(filled: httpx2.Client, route: Route, query: dict[str, str]) -> None:
    """Nothing of the others is in body or headers, on any route, in any format, with any filter."""
    for place, merchant in enumerate(MERCHANTS):
        answer = filled.get(paths(route, merchant), params=query, headers=bearer(TOKENS[merchant]))
        assert 200 == answer.status_code, answer.text
        if route.answer in OPEN:
            continue
        said = text_of(answer)
        for other in range(len(MERCHANTS)):
            if other != place:
                assert f"user-of-{other}-" not in said
        if route.answer is Answer.USER:
            assert "739.0" not in said, "the user's average over all merchants"  # no time of day has that
        if route.answer is Answer.USERS and not query:
            assert {f"user-of-{place}-{number}" for number in range(5)} | {"shared"} == {
                row["user_id"] for row in answer.json()
            }
        if route.answer is Answer.MERCHANTS and query in ({}, {"format": "json"}):
            assert [merchant] == [row["merchant_id"] for row in answer.json()]


@pytest.mark.parametrize(("route", "query"), [case for case in CASES if "{merchant_id}" in case.values[0].template])  # type: ignore[union-attr]
def test_another_merchant_s_path_is_refused(filled: httpx2.Client, route: Route, query: dict[str, str]) -> None:
    """With a 403 that is the same whether or not there is such a merchant."""
    for mine, other in itertools.permutations([*MERCHANTS, "nobody"], 2):
        if mine == "nobody":
            continue
        answers = {
            (answer.status_code, answer.text)
            for answer in (
                filled.get(paths(route, other), params=query, headers=bearer(TOKENS[mine])),
                filled.get(paths(route, "nobody"), params=query, headers=bearer(TOKENS[mine])),
            )
        }
        assert [403] == [status for status, _ in answers]


@pytest.mark.parametrize(("route", "query"), [case for case in CASES if case.values[0].answer not in OPEN])  # type: ignore[union-attr]
def test_an_etag_of_one_view_fits_no_other(filled: httpx2.Client, route: Route, query: dict[str, str]) -> None:
    """Who has another's tag gets no 304 for it; nothing may be kept by caches that others share."""
    tags = {}
    for token, merchant in KEYS.items():
        answer = filled.get(paths(route, merchant or MERCHANTS[0]), params=query, headers=bearer(token))
        tags[token] = answer.headers["etag"]
        assert "private" in answer.headers["cache-control"]
        assert "authorization" in answer.headers["vary"]
    for mine, other in itertools.permutations(KEYS, 2):
        path = paths(route, KEYS[mine] or MERCHANTS[0])
        answer = filled.get(path, params=query, headers={**bearer(mine), "if-none-match": tags[other]})
        assert 200 == answer.status_code, "a tag tells that two views are the same"
        own = filled.get(path, params=query, headers={**bearer(mine), "if-none-match": tags[mine]})
        assert (304, b"") == (own.status_code, own.content)
    assert len(KEYS) == len(set(tags.values()))


def test_a_cursor_of_one_merchant_is_none_of_another_s(filled: httpx2.Client) -> None:
    """It would tell where the other's users begin."""
    following = filled.get("/?limit=2", headers=bearer(ACME)).json()["next"]

    assert 200 == filled.get(following, headers=bearer(ACME)).status_code
    for token in (ALL, ACME2):
        assert "bad_cursor" == filled.get(following, headers=bearer(token)).json()["code"]


@pytest.mark.parametrize(
    "path",
    [
        "/merchants/acme/../acme2", "/merchants/acme%2F..%2Facme2", "//merchants/acme2", "/merchants/acme2/",
        "/merchants/acme2%00", "/merchants/%61cme2", "/merchants/acme2?merchant_id=acme", "/?merchant_id=acme2",
        "/?merchant=acme2", "/MERCHANTS/acme2",
        "/merchants/acme2/users/shared", "/merchants/acme;/acme2", "/merchants/acme2/summary/", "/./merchants/acme2",
        "/merchants/acme2%2Fsummary", "/users/user-of-2-1", "/users/..%2Fmerchants%2Facme2",
    ],
)  # fmt: skip
def test_no_writing_of_a_path_reaches_another_merchant(filled: httpx2.Client, path: str) -> None:
    """Dots, slashes, escapes, cases, further parameters: refused, or not there."""
    request = filled.build_request("GET", "/", headers=bearer(ACME))
    # The client would tidy the path up.
    target = path.encode()
    request.url = httpx2.URL(str(filled.base_url), raw_path=target)
    answer = filled.send(request)

    assert answer.status_code in {400, 403, 404}
    assert "user-of-2" not in answer.text


def test_merchants_whose_names_begin_alike_stay_apart(filled: httpx2.Client) -> None:
    """``acme`` is not ``acme2``, nor is ``acme:``… anything."""
    assert {"shared"} == users(filled, ACME) & users(filled, ACME2)


def users(client: httpx2.Client, token: str) -> set[str]:
    """Return the users that a key shows."""
    return {row["user_id"] for row in client.get("/", headers=bearer(token)).json()}


def test_a_key_comes_as_header_as_password_or_in_the_query(filled: httpx2.Client) -> None:
    """All three show the same; two at once are refused."""
    password = {"authorization": "Basic " + base64.b64encode(f"anyone:{ALL}".encode()).decode()}
    answers = [filled.get("/", headers=bearer(ALL)), filled.get("/", headers=password), filled.get(f"/?key={ALL}")]

    assert [200] * 3 == [answer.status_code for answer in answers]
    assert 1 == len({answer.headers["etag"] for answer in answers})
    assert "two_keys" == filled.get(f"/?key={ALL}", headers=bearer(ALL)).json()["code"]


def test_the_books_are_not_a_merchant_s(filled: httpx2.Client) -> None:
    """They count everybody's events."""
    assert filled.get("/summary", headers=bearer(ACME)).json()["ledger"] is None
    assert filled.get("/summary", headers=bearer(ALL)).json()["ledger"] is not None


def test_a_merchant_s_key_cannot_tell_how_much_others_send(
    filled: httpx2.Client, report_settings: Settings, raw_redis: redis.Redis
) -> None:
    """One event pending or fifty, a run of ten events or of a million: every answer is the same to the last byte."""
    moment = int(time.time() * 1000) // 1000 * 1000  # what is received within one second looks alike
    answers = []
    for events in (1, 50):
        raw_redis.delete(Keys(report_settings.namespace).runs)
        record_run(report_settings, events**3)
        pend(report_settings, raw_redis, events, moment + events)
        answers.append({name: (answer, said_of(answer)) for name, answer in all_answers(filled, ACME)})
    one, fifty = answers

    assert {name: said for name, (_, said) in one.items()} == {name: said for name, (_, said) in fifty.items()}
    for answer, said in one.values():
        assert "pending-events" not in said
        assert 200 == answer.status_code
    freshness = filled.get("/summary", headers=bearer(ACME)).json()["freshness"]
    assert (None, None) == (freshness["pending_events"], freshness["last_run"]["events"])
    assert freshness["complete_through"] < freshness["next_run_by"], "that something is pending it may know"
    assert 50 == filled.get("/summary", headers=bearer(ALL)).json()["freshness"]["pending_events"]


def record_run(settings: Settings, events: int) -> None:
    """Put a run on record."""
    store = ShardStore(settings)
    store.record_run(
        {
            "run": "r", "state": "SUCCEEDED", "events": str(events), "error": "",
            "started_at": "2026-03-02T08:00:00Z", "ended_at": "2026-03-02T08:00:30Z",
        }
    )  # fmt: skip
    store.close()


def pend(settings: Settings, raw_redis: redis.Redis, events: int, moment_ms: int) -> None:
    """Let so many events of another merchant wait in a log, the first of them since a moment."""
    event = Event(timestamp_us=0, user_id="shared", event="flyer_open", flyer_id="f", merchant_id=MERCHANTS[2])
    shard = shard_of(event.user_id, settings.shards or 0)
    keys = Keys(settings.namespace)
    raw_redis.delete(keys.events(shard))
    raw_redis.xadd(keys.events(shard), {"e": pack_events([event] * events)}, id=f"{moment_ms}-1")
    raw_redis.hset(keys.ledger(shard), mapping={"accepted": events, "folded": 0})


def all_answers(client: httpx2.Client, token: str) -> Iterator[tuple[str, httpx2.Response]]:
    """Yield the answers of every route in every variant, and of an event."""
    for route in ROUTES:
        for query in variants(route) if route.answer not in OPEN else ():
            answer = client.get(paths(route, KEYS[token] or ""), params=query, headers=bearer(token))
            yield f"{route.name}-{query}", answer
    for rows in (False, True):
        event = {"specversion": "1.0", "id": "1", "source": "/p", "type": REPORT_REQUESTED, "data": {"rows": rows}}
        head = {**bearer(token), "content-type": "application/cloudevents+json"}
        yield f"event-{rows}", client.post("/", headers=head, content=json.dumps(event))


def said_of(answer: httpx2.Response) -> str:
    """Return all that an answer says, but for when it was given."""
    headers = {name: value for name, value in answer.headers.items() if name not in {"date", "ce-time"}}
    body = re.sub(rb'"time": ?"[^"]*"', b"", answer.content)
    return f"{answer.status_code} {headers} {body!r}"


def test_metrics_are_not_for_readers_behind_a_gateway(filled: httpx2.Client) -> None:
    """They count everybody's events; a key opens them to nobody."""
    answer = filled.get("/metrics", headers={**bearer(ACME), "x-forwarded-for": "10.0.0.1"})

    assert (403, "metrics_not_public") == (answer.status_code, answer.json()["code"])


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"FLYERTIME_READ_AUTH": "keys"}, "FLYERTIME_READ_AUTH=off"),
        ({"FLYERTIME_READ_AUTH": "keys", "FLYERTIME_READ_KEYS": "ftr_secret"}, "FLYERTIME_READ_KEYS: key 1 must be"),
        ({"FLYERTIME_READ_AUTH": "keys", "FLYERTIME_OIDC_ISSUER": "http://x"}, "FLYERTIME_OIDC_AUDIENCE must be set"),
        ({"FLYERTIME_READ_AUTH": "no"}, "FLYERTIME_READ_AUTH must be one of keys, off"),
    ],
)
def test_report_does_not_start_without_saying_who_may_read(
    serve_function: ServeFunction, report_settings: Settings, environment: dict[str, str], words: str
) -> None:
    """Open to everybody only where that is set; the log says what to do, and no secret."""
    with pytest.raises(RuntimeError) as failed, serve_function("report", report_settings, **environment):
        pass

    assert words in str(failed.value)
    assert "ftr_secret" not in str(failed.value)


def test_pseudonyms_hide_ids_and_their_order(
    serve_function: ServeFunction, report_settings: Settings, filled: httpx2.Client
) -> None:
    """A merchant's reader sees other names than another's, in an order of their own, and finds users by these alone."""
    settings = dataclasses.replace(report_settings, read_keys=LINES)
    assert filled.get("/", headers=bearer(ALL)).status_code == 200
    with (
        serve_function("report", settings, FLYERTIME_PSEUDONYM_SECRET="a secret") as process,
        httpx2.Client(base_url=process.url, trust_env=False) as client,
    ):
        seen = {token: [row["user_id"] for row in get(client, "/", token)] for token in KEYS}
        pages = get(client, "/?limit=4", ACME)
        rest = get(client, pages["next"], ACME)
        one = get(client, f"/users/{seen[ACME][0]}", ACME)

        assert 404 == client.get("/users/shared", headers=bearer(ACME)).status_code
        assert 404 == client.get(f"/users/{seen[ACME][0][:-1]}", headers=bearer(ACME)).status_code
        assert 404 == client.get(f"/users/{seen[ACME2][0]}", headers=bearer(ACME)).status_code
        assert [] == get(client, "/?prefix=user", ACME)
    assert "shared" in seen[ALL]
    merchants = [set(seen[token]) for token in KEYS if token != ALL]
    assert all(len(names) == 6 and not names & {"shared"} for names in merchants)
    assert not set.intersection(*merchants)
    assert not any("user-of" in name for names in merchants for name in names)
    assert sorted(seen[ACME]) == seen[ACME] == [row["user_id"] for row in pages["rows"] + rest["rows"]]
    assert seen[ACME][0] == one["user_id"]


@pytest.fixture(scope="module")
def hidden(serve_function: ServeFunction, report_settings: Settings) -> Iterator[httpx2.Client]:
    """A client of a report that asks for keys, and shows merchants pseudonyms, and no group of fewer than eight."""
    settings = dataclasses.replace(report_settings, read_keys=LINES)
    secret = {"FLYERTIME_PSEUDONYM_SECRET": "a secret", "FLYERTIME_MIN_GROUP_USERS": "8"}
    with (
        serve_function("report", settings, **secret) as process,
        httpx2.Client(base_url=process.url, trust_env=False, timeout=30) as client,
    ):
        yield client


@pytest.mark.parametrize(("route", "query"), [case for case in CASES if case.values[0].answer not in OPEN])  # type: ignore[union-attr]
def test_no_id_and_no_small_group_is_in_any_answer(
    hidden: httpx2.Client, filled: httpx2.Client, route: Route, query: dict[str, str]
) -> None:
    """Of any route, in any format, with any filter, order and page: pseudonyms alone, and no number of six users."""
    assert 200 == filled.get("/", headers=bearer(ALL)).status_code
    for merchant, token in TOKENS.items():
        pseudonyms = Pseudonyms("a secret", merchant)
        shown = pseudonyms.of(b"shared").decode()
        assert 404 == hidden.get(paths(route, merchant), params=query, headers=bearer(token)).status_code or (
            route.answer is not Answer.USER
        )
        answer = hidden.get(paths(route, merchant, shown), params=query, headers=bearer(token))
        said = text_of(answer)
        assert 200 == answer.status_code, answer.text
        assert "user-of" not in said
        assert "shared" not in said
        if route.answer is Answer.USER:
            assert shown in said
        if route.answer is Answer.USERS and query.keys() <= {"format"}:
            assert shown in said
        if route.answer is Answer.SUMMARY:
            assert (None, None, []) == tuple(answer.json()[name] for name in ("users", "sessions", "histogram"))
        if route.answer is Answer.MERCHANTS and query in ({}, {"format": "json"}):
            assert [merchant, *[None] * 6] == [*answer.json()[0].values()]
        if route.answer is Answer.MERCHANTS and query == {"format": "csv"}:
            assert answer.text.endswith(",,,,,,\r\n")


@pytest.mark.parametrize("sort", ["", "&sort=-user_id"])
def test_pages_of_pseudonyms_are_complete_while_runs_commit(
    hidden: httpx2.Client, filled: httpx2.Client, put: Put, sort: str
) -> None:
    """Nobody comes twice, and who was there at first is not missed; what a page ends with is a pseudonym too."""
    first = {f"u{number}": (HOUR_S, 1) for number in range(40)}
    put(None, {"acme": first})
    before = {row["user_id"] for row in get(filled, "/", ACME)}
    page = get(hidden, f"/?limit=6{sort}", ACME)
    read = [row["user_id"] for row in page["rows"]]
    while page["next"]:
        put(None, {"acme": {f"n{len(read)}": (1, 1), f"u{len(read) % 40}": (len(read), 2)}})
        page = get(hidden, page["next"], ACME)
        read += [row["user_id"] for row in page["rows"]]
    pseudonyms = Pseudonyms("a secret", "acme")

    assert len(read) == len(set(read))
    assert {pseudonyms.of(name.encode()).decode() for name in before} <= set(read)


def test_an_event_shows_no_id_and_no_small_group(hidden: httpx2.Client, filled: httpx2.Client) -> None:
    """What is true of addresses is true of events."""
    assert 200 == filled.get("/", headers=bearer(ALL)).status_code
    said = {name: answer for name, answer in all_answers(hidden, ACME) if name.startswith("event")}
    rows = said["event-True"].json()["data"]["rows"]

    assert {"event-False", "event-True"} == said.keys()
    assert (None, []) == tuple(said["event-False"].json()["data"]["summary"][name] for name in ("users", "histogram"))
    assert 6 == len(rows)
    assert all(is_pseudonym(row["user_id"]) for row in rows)


def get(client: httpx2.Client, path: str, token: str) -> Any:
    """Return what a key is shown."""
    return client.get(path, headers=bearer(token)).raise_for_status().json()


def test_small_groups_are_not_shown(
    serve_function: ServeFunction, report_settings: Settings, filled: httpx2.Client, put: Put
) -> None:
    """With a least size set, no summary, bucket or percentile is of fewer users."""
    assert filled.get("/", headers=bearer(ALL)).status_code == 200
    put(None, {"large": {f"u{number}": (number * 360, 1) for number in range(40)}})
    with (
        serve_function("report", report_settings, FLYERTIME_MIN_GROUP_USERS="8") as process,
        httpx2.Client(base_url=process.url, trust_env=False) as client,
    ):
        small = client.get("/merchants/acme/summary").json()
        large = client.get("/merchants/large/summary").json()
        merchants = {row["merchant_id"]: row["users"] for row in client.get("/merchants").json()}

    assert (None, None, None, []) == (small["users"], small["sessions"], small["mean_hours"], small["histogram"])
    assert {"acme": None, "acme2": None, "zephyr/ü:1": None, "large": 40} == merchants
    assert 40 == large["users"] == sum(bucket["users"] for bucket in large["histogram"])
    assert all(bucket["users"] >= 8 for bucket in large["histogram"])
    assert (None, 1.9) == (large["percentiles"]["p99"], large["percentiles"]["p50"])


def test_who_asks_too_often_is_told_when_to_come_again(
    serve_function: ServeFunction, report_settings: Settings
) -> None:
    """A key's own limit goes before the one for all; another key is not held up."""
    lines = f"{ReadKey('slow', sha256_of('ftr_slow'), None, 0.1).line} {ReadKey('k', sha256_of('ftr_k')).line}"
    settings = dataclasses.replace(report_settings, read_keys=lines)
    chart = {"kind": "rows", "title": "t", "width_px": 300, "height_px": 200, "bars": []}
    with (
        serve_function("report", settings, FLYERTIME_READ_RATE_PER_S="100") as process,
        httpx2.Client(base_url=process.url, trust_env=False) as client,
    ):
        slow = [client.get("/", headers=bearer("ftr_slow")) for _ in range(2)]
        drawn = [client.post("/page/chart", json=chart, headers=bearer(f"ftr_{key}")) for key in ("slow", "k", "none")]
        other = [client.get("/", headers=bearer("ftr_k")).status_code for _ in range(20)]

    assert [200, 429] == [answer.status_code for answer in slow]
    assert 1 <= int(slow[1].headers["retry-after"]) <= 10
    assert [200] * 20 == other
    assert [429, 200, 401] == [answer.status_code for answer in drawn], "a chart is asked for as the numbers are"


@pytest.mark.parametrize(
    "path",
    [
        "/?limit=1&prefix=%0d%0aset-cookie:%20x=1",
        "/merchants/%0d%0aset-cookie:%20x=1?limit=1&format=csv",
        "/merchants/acme?limit=1&format=csv&prefix=%0d%0aset-cookie:x",
        "/users/%0d%0aset-cookie:%20x=1",
        "/users/" + "%00" * 50,
        "/users/%ff%fe",
        "/merchants/%ed%a0%80",
        "/?prefix=%00",
        "/?" + "&".join(f"x{number}=1" for number in range(1000)),
        "/?limit=1&after=" + "A" * 60_000,
    ],
)
def test_odd_requests_are_answered_and_set_no_header(filled: httpx2.Client, path: str) -> None:
    """Line ends, nulls, what is no UTF-8, and very much of it come to nothing."""
    answer = filled.get(path, headers=bearer(ALL))

    assert answer.status_code in {200, 400, 404, 431}
    assert "set-cookie" not in answer.headers
    assert "\r" not in answer.headers.get("link", "")


def test_a_next_link_goes_through_any_prefix(filled: httpx2.Client, put: Put) -> None:
    """Line ends and other signs of an address stay within their parameter, in the body and in the header."""
    odd = ["\r\nset-cookie: x", "\r\nset-cookie: y", "\r\nset-cookie: z"]
    put(dict.fromkeys(odd, (HOUR_S, 1)))
    body = filled.get("/", params={"limit": 2, "prefix": "\r\nset-cookie: "}, headers=bearer(ALL)).json()
    link = filled.get(
        "/", params={"limit": 2, "prefix": "\r\nset-cookie: ", "format": "ndjson"}, headers=bearer(ALL)
    ).headers["link"]
    rest = filled.get(body["next"], headers=bearer(ALL)).json()

    assert sorted(odd) == sorted(row["user_id"] for row in body["rows"] + rest["rows"])
    assert link == f'<{body["next"].replace("limit=2&", "limit=2&")}>; rel="next"'.replace(
        "&after=", "&format=ndjson&after="
    )


def test_ids_of_any_length_and_alphabet_come_through(filled: httpx2.Client, put: Put) -> None:
    """In every format, and one by one."""
    ids = [
        "x" * 60_000,
        "\N{GRINNING FACE}" * 200,
        "\u2028\u0000\u007f",
        "e\u0301",
        "\u00e9",
        " ",
        "\\",
        '"',
        "a\tb\nc",
    ]
    put(None, {"odd": {name: (HOUR_S * (place + 1), 1) for place, name in enumerate(ids)}})
    for name in ("json", "ndjson", "arrow", "parquet"):
        answer = filled.get("/merchants/odd", params={"format": name, "sort": "hours"}, headers=bearer(ALL))
        assert ids == [row["user_id"] for row in rows_in(answer)]
    paged = filled.get("/merchants/odd?limit=1&sort=-hours", headers=bearer(ALL)).json()
    for wanted in reversed(ids):
        assert [wanted] == [row["user_id"] for row in paged["rows"]]
        paged = filled.get(paged["next"], headers=bearer(ALL)).json() if paged["next"] else None


def rows_in(answer: httpx2.Response) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    kind = answer.headers["content-type"].partition(";")[0]
    if kind == "application/json":
        rows: list[dict[str, Any]] = answer.json()
    elif kind == "application/x-ndjson":
        rows = [json.loads(line) for line in answer.text.split("\n")[:-1]]
    elif kind == "application/vnd.apache.arrow.stream":
        rows = pa.ipc.open_stream(answer.content).read_all().to_pylist()
    else:
        rows = pq.read_table(io.BytesIO(answer.content)).to_pylist()
    return rows
