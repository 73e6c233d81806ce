"""Who sees what: every route, format and key, made from the table of routes, so that none is left out."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import re
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from functions.adapters.redis_shard import ShardStore
from functions.core.access import sha256_of
from functions.core.events import Event
from functions.core.packing import pack_events
from functions.core.read_access import ReadKey
from functions.core.shards import Keys, shard_of
from functions.report.routes import ROUTES, Answer, Route
from tests.report.readers import (
    ACME,
    ACME2,
    ALL,
    CASES,
    KEYS,
    LINES,
    MERCHANTS,
    OPEN,
    SECRET,
    TOKENS,
    all_answers,
    bearer,
    paths,
    shown_as,
    text_of,
    variants,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from functions.core.settings import Settings
    from tests.conftest import ServeFunction


@pytest.fixture(scope="module", params=["keyed", "off"])
def pseudonyms(request: pytest.FixtureRequest) -> Any:
    """What merchants' readers see in place of ids: all of this holds for either."""
    return request.param


@pytest.fixture(scope="module")
def guarded(serve_function: ServeFunction, report_settings: Settings, pseudonyms: str) -> Iterator[httpx2.Client]:
    """A client of a report that asks for keys, with pseudonyms and without."""
    settings = dataclasses.replace(report_settings, read_keys=LINES, pseudonyms=pseudonyms, pseudonym_secret=SECRET)
    with (
        serve_function("report", settings) as process,
        httpx2.Client(base_url=process.url, trust_env=False, timeout=30) as client,
    ):
        yield client


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
def test_a_merchant_s_key_shows_that_merchant_alone(
    filled: httpx2.Client, pseudonyms: str, route: Route, query: dict[str, str]
) -> None:
    """Nothing of the others is in body or headers, on any route, in any format, with any filter."""
    for place, merchant in enumerate(MERCHANTS):
        path = paths(route, merchant, shown_as("shared", merchant, pseudonyms))
        answer = filled.get(path, params=query, headers=bearer(TOKENS[merchant]))
        assert 200 == answer.status_code, answer.text
        if route.answer in OPEN:
            continue
        said = text_of(answer)
        for other in range(len(MERCHANTS)):
            if other != place:
                assert f"user-of-{other}-" not in said
                assert shown_as(f"user-of-{other}-0", MERCHANTS[other], pseudonyms) not in said
        if route.answer is Answer.USER:
            assert "739.0" not in said, "the user's average over all merchants"  # no time of day has that
        if route.answer is Answer.USERS and not query:
            own = ["shared", *(f"user-of-{place}-{number}" for number in range(5))]
            assert {shown_as(user, merchant, pseudonyms) for user in own} == {row["user_id"] for row in answer.json()}
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
def test_an_etag_of_one_view_fits_no_other(
    filled: httpx2.Client, pseudonyms: str, route: Route, query: dict[str, str]
) -> None:
    """Who has another's tag gets no 304 for it; nothing may be kept by caches that others share."""
    tags, own = {}, {}
    for token, merchant in KEYS.items():
        user = "shared" if merchant is None else shown_as("shared", merchant, pseudonyms)
        own[token] = paths(route, merchant or MERCHANTS[0], user)
        answer = filled.get(own[token], params=query, headers=bearer(token))
        tags[token] = answer.headers["etag"]
        assert "private" in answer.headers["cache-control"]
        assert "authorization" in answer.headers["vary"]
    for mine, other in itertools.permutations(KEYS, 2):
        answer = filled.get(own[mine], params=query, headers={**bearer(mine), "if-none-match": tags[other]})
        assert 200 == answer.status_code, "a tag tells that two views are the same"
        again = filled.get(own[mine], params=query, headers={**bearer(mine), "if-none-match": tags[mine]})
        assert (304, b"") == (again.status_code, again.content)
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


def test_merchants_whose_names_begin_alike_stay_apart(filled: httpx2.Client, pseudonyms: str) -> None:
    """``acme`` is not ``acme2``, nor is ``acme:``… anything; with pseudonyms they have nobody in common."""
    assert (6, 6) == (len(users(filled, ACME)), len(users(filled, ACME2)))
    assert ({"shared"} if pseudonyms == "off" else set()) == users(filled, ACME) & users(filled, ACME2)


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
    filled: httpx2.Client, pseudonyms: str, report_settings: Settings, raw_redis: redis.Redis
) -> None:
    """One event pending or fifty, a run of ten events or of a million: every answer is the same to the last byte."""
    user = shown_as("shared", MERCHANTS[0], pseudonyms)
    moment = int(time.time() * 1000) // 1000 * 1000  # what is received within one second looks alike
    answers = []
    for events in (1, 50):
        raw_redis.delete(Keys(report_settings.namespace).runs)
        record_run(report_settings, events**3)
        pend(report_settings, raw_redis, events, moment + events)
        answers.append({name: (answer, said_of(answer)) for name, answer in all_answers(filled, ACME, user)})
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
    assert "Traceback" not in str(failed.value)


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
