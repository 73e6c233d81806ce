"""What partners who put their data together may not find out: ids, and numbers of small groups."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from functions.core.access import sha256_of
from functions.core.errors import MisconfiguredError
from functions.core.event_types import REPORT_REQUESTED
from functions.core.pseudonyms import Pseudonyms, is_pseudonym
from functions.core.read_access import ReadKey
from functions.core.settings import Settings
from functions.report.gate import Gate
from functions.report.routes import Answer, Route
from functions.report.views import Views
from tests.report.readers import (
    ACME,
    ACME2,
    ALL,
    CASES,
    HOUR_S,
    KEYS,
    LINES,
    OPEN,
    SECRET,
    TOKENS,
    all_answers,
    bearer,
    get,
    paths,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import ServeFunction
    from tests.report.conftest import Put


def test_pseudonyms_hide_ids_and_their_order(
    serve_function: ServeFunction, report_settings: Settings, filled: httpx2.Client
) -> None:
    """A merchant's reader sees other names than another's, in an order of their own, and finds users by these alone."""
    settings = dataclasses.replace(report_settings, read_keys=LINES)
    assert filled.get("/", headers=bearer(ALL)).status_code == 200
    with (
        serve_function("report", settings, FLYERTIME_PSEUDONYM_SECRET=SECRET) as process,
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
    secret = {"FLYERTIME_PSEUDONYM_SECRET": SECRET, "FLYERTIME_MIN_GROUP_USERS": "8"}
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
        pseudonyms = Pseudonyms(SECRET, merchant)
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
    pseudonyms = Pseudonyms(SECRET, "acme")

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


BOUND = ReadKey("m", sha256_of("ftr_m"), "m").line
UNBOUND = ReadKey("a", sha256_of("ftr_a")).line
OIDC = {"oidc_issuer": "https://login.example", "oidc_audience": "flyertime"}


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (
            {"FLYERTIME_READ_KEYS": f"{UNBOUND} {BOUND}"},
            ["set FLYERTIME_PSEUDONYM_SECRET to", "FLYERTIME_PSEUDONYMS=off"],
        ),
        (
            {"FLYERTIME_OIDC_ISSUER": OIDC["oidc_issuer"], "FLYERTIME_OIDC_AUDIENCE": "a"},
            ["set FLYERTIME_PSEUDONYM_SECRET to", "FLYERTIME_PSEUDONYMS=off"],
        ),
        (
            {"FLYERTIME_READ_KEYS": BOUND, "FLYERTIME_PSEUDONYM_SECRET": SECRET[:31]},
            ["FLYERTIME_PSEUDONYM_SECRET must have at least 32 characters"],
        ),
        ({"FLYERTIME_PSEUDONYMS": "no"}, ["FLYERTIME_PSEUDONYMS must be one of keyed, off"]),
        ({"FLYERTIME_MIN_GROUP_USERS": "0"}, ["FLYERTIME_MIN_GROUP_USERS must be at least 1"]),
    ],
)
def test_report_does_not_start_where_partners_would_see_ids_unasked(
    serve_function: ServeFunction, report_settings: Settings, named: dict[str, str], words: list[str]
) -> None:
    """The log says what to set, and repeats no secret."""
    with (
        pytest.raises(RuntimeError) as failed,
        serve_function("report", report_settings, FLYERTIME_READ_AUTH="keys", **named),
    ):
        pass

    assert all(each in str(failed.value) for each in words)
    assert SECRET[:31] not in str(failed.value)
    assert "Traceback" not in str(failed.value)


@pytest.mark.parametrize(
    ("named", "refused"),
    [
        ({"read_keys": UNBOUND}, False),
        ({"read_auth": "off"}, False),
        ({"read_keys": BOUND, "read_auth": "off"}, False),
        ({"read_keys": BOUND}, True),
        ({"read_keys": BOUND, "pseudonyms": "off"}, False),
        ({"read_keys": BOUND, "pseudonyms": "off", "pseudonym_secret": "short"}, False),
        ({"read_keys": BOUND, "pseudonym_secret": "x" * 32}, False),
        ({"read_keys": BOUND, "pseudonym_secret": "x" * 31}, True),
        ({"read_keys": UNBOUND, "pseudonym_secret": "short"}, True),
        (OIDC, True),
        ({**OIDC, "read_auth": "off"}, False),
        ({**OIDC, "pseudonyms": "off"}, False),
        ({**OIDC, "pseudonym_secret": "x" * 32}, False),
    ],
    ids=str,
)
def test_a_secret_is_asked_for_where_a_reader_may_be_bound_to_a_merchant(named: dict[str, str], refused: bool) -> None:
    """And nowhere else; pseudonyms are off only by that name."""
    settings = Settings(**named)  # type: ignore[arg-type]  # texts all
    try:
        Views(settings, may_be_bound=Gate(settings).may_bind)
    except MisconfiguredError:
        assert refused
    else:
        assert not refused


@pytest.fixture
def groups(filled: httpx2.Client, put: Put) -> None:
    """Merchants of four, of six and of forty users."""
    assert filled.get("/", headers=bearer(ALL)).status_code == 200
    put(None, {"small": {f"u{number}": (HOUR_S, 1) for number in range(4)}})
    put(None, {"large": {f"u{number}": (number * 360, 1) for number in range(40)}})


def read_keys_of(*merchants: str | None) -> str:
    """Return lines of keys that are called as their merchants are."""
    return " ".join(ReadKey(name or "all", sha256_of(f"ftr_{name}"), name).line for name in merchants)


@pytest.mark.usefixtures("groups")
@pytest.mark.parametrize("pseudonyms", ["keyed", "off"])
def test_unless_set_partners_see_no_group_of_fewer_than_five_and_others_all(
    serve_function: ServeFunction, report_settings: Settings, pseudonyms: str
) -> None:
    """Who reads all merchants sees each row anyway; by address, and by event."""
    settings = dataclasses.replace(
        report_settings,
        read_keys=read_keys_of(None, "small", "acme", "large"),
        pseudonyms=pseudonyms,
        pseudonym_secret=SECRET,
    )
    with (
        serve_function("report", settings) as process,
        httpx2.Client(base_url=process.url, trust_env=False) as client,
    ):
        partners = {name: get(client, "/summary", f"ftr_{name}") for name in ("small", "acme", "large")}
        same = {name: get(client, f"/merchants/{name}/summary", f"ftr_{name}") for name in partners}
        rows = {name: get(client, "/merchants", f"ftr_{name}")[0] for name in partners}
        users = {name: len(get(client, "/", f"ftr_{name}")) for name in partners}
        said = {name: summary_by_event(client, f"ftr_{name}", None) for name in partners}
        all_of_small = get(client, "/merchants/small/summary", "ftr_None")
        all_rows = {row["merchant_id"]: row["users"] for row in get(client, "/merchants", "ftr_None")}
        said_to_all = summary_by_event(client, "ftr_None", "small")

    assert partners == same
    for shown in (partners, rows, said):
        assert {"small": None, "acme": 6, "large": 40} == {name: part["users"] for name, part in shown.items()}
    assert {"small": [], "acme": [6]} == {
        name: [bucket["users"] for bucket in partners[name]["histogram"]] for name in ("small", "acme")
    }
    assert all(bucket["users"] >= 5 for bucket in partners["large"]["histogram"])
    assert (None, 1.9) == (partners["large"]["percentiles"]["p99"], partners["large"]["percentiles"]["p50"])
    assert {"small": 4, "acme": 6, "large": 40} == users, "of rows there are no groups"
    assert (4, 1.0) == (all_of_small["users"], all_of_small["percentiles"]["p99"])
    assert 4 == all_of_small["histogram"][-1]["users"]
    assert (4, 6, 4) == (all_rows["small"], all_rows["acme"], said_to_all["users"])


def summary_by_event(client: httpx2.Client, token: str, merchant: str | None) -> Any:
    """Return the summary that an event is answered with."""
    event = {
        "specversion": "1.0", "id": "1", "source": "/p", "type": REPORT_REQUESTED, "data": {"merchant_id": merchant},
    }  # fmt: skip
    head = {**bearer(token), "content-type": "application/cloudevents+json"}
    return client.post("/", headers=head, json=event).raise_for_status().json()["data"]["summary"]


@pytest.mark.usefixtures("groups")
def test_a_least_size_that_is_set_holds_for_everybody(serve_function: ServeFunction, report_settings: Settings) -> None:
    """No summary, bucket or percentile is of fewer users; 1 shows each group to partners too."""
    settings = dataclasses.replace(report_settings, read_keys=read_keys_of(None, "small"), pseudonym_secret=SECRET)
    shown = {}
    for least in ("8", "1"):
        with (
            serve_function("report", settings, FLYERTIME_MIN_GROUP_USERS=least) as process,
            httpx2.Client(base_url=process.url, trust_env=False) as client,
        ):
            shown[least] = {
                "small": get(client, "/merchants/small/summary", "ftr_None"),
                "large": get(client, "/merchants/large/summary", "ftr_None"),
                "own": get(client, "/summary", "ftr_small"),
                "rows": {row["merchant_id"]: row["users"] for row in get(client, "/merchants", "ftr_None")},
            }

    for name in ("small", "own"):
        small = shown["8"][name]
        assert (None, None, None, []) == (small["users"], small["sessions"], small["mean_hours"], small["histogram"])
        assert 4 == shown["1"][name]["users"] == shown["1"][name]["histogram"][-1]["users"]
    hidden = {"acme": None, "acme2": None, "zephyr/ü:1": None, "small": None, "large": 40}
    assert hidden == shown["8"]["rows"]
    assert [4, 6, 6, 6, 40] == sorted(shown["1"]["rows"].values())
    large = shown["8"]["large"]
    assert 40 == large["users"] == sum(bucket["users"] for bucket in large["histogram"])
    assert all(bucket["users"] >= 8 for bucket in large["histogram"])
    assert (None, 1.9) == (large["percentiles"]["p99"], large["percentiles"]["p50"])


@pytest.mark.usefixtures("groups")
def test_another_setting_makes_other_etags_of_what_it_changes(
    serve_function: ServeFunction, report_settings: Settings
) -> None:
    """Who has a summary from before is not told that it still is what is shown; and an answer that is the same is."""
    settings = dataclasses.replace(report_settings, read_keys=read_keys_of(None, "large"))
    tags: dict[tuple[str, str], list[str]] = {}
    for named in (
        {"FLYERTIME_PSEUDONYMS": "off", "FLYERTIME_MIN_GROUP_USERS": "1"},
        {"FLYERTIME_PSEUDONYMS": "off"},
        {"FLYERTIME_PSEUDONYM_SECRET": SECRET},
        {"FLYERTIME_PSEUDONYM_SECRET": SECRET[::-1]},
    ):
        with serve_function("report", settings, **named) as process:
            for token in ("ftr_None", "ftr_large"):
                for path in ("/", "/merchants", "/summary"):
                    answer = httpx2.get(process.url + path, headers=bearer(token), trust_env=False)
                    tags.setdefault((token, path), []).append(answer.headers["etag"])

    assert [1, 1, 1] == [len(set(tags["ftr_None", path])) for path in ("/", "/merchants", "/summary")]
    assert 3 == len(set(tags["ftr_large", "/"])), "ids, and two kinds of pseudonyms"
    for path in ("/merchants", "/summary"):
        assert tags["ftr_large", path][0] != tags["ftr_large", path][1], "a least size"
