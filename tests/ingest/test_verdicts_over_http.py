"""Every event of a request is answered for, by verdict and by name."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters.redis_shard import ShardStore
from functions.core.packing import unpack_events
from functions.core.shards import shard_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx2

    from functions.core.settings import Settings


@pytest.fixture
def pending(ingest_settings: Settings) -> Iterator[Callable[[], list[str]]]:
    """Return what lists the user ids of all events in the log."""
    store = ShardStore(ingest_settings)

    def users() -> list[str]:
        return [
            event.user_id
            for shard in range(4)
            for _, entry in store.log(shard, "0-0", "+")
            for event in unpack_events(entry)
        ]

    yield users
    store.close()


def verdicts(response: httpx2.Response) -> list[str]:
    """Return the verdicts of a reply, in order."""
    return [event["verdict"] for event in response.json()["events"]]


def test_an_accepted_event_is_in_the_log(
    post_events: Callable[..., httpx2.Response], structured: Any, app_event: Any, pending: Callable[[], list[str]]
) -> None:
    """202 means that the event is in Redis."""
    response = post_events(structured(data=app_event(user_id="in-the-log")))

    assert (202, ["accepted"]) == (response.status_code, verdicts(response))
    assert 1 == pending().count("in-the-log")


def test_a_repeat_is_a_duplicate_and_a_success(
    post_events: Callable[..., httpx2.Response], structured: Any, app_event: Any, pending: Callable[[], list[str]]
) -> None:
    """The same source and id again is answered 202 and counts once."""
    event = structured(data=app_event(user_id="repeated"))

    first, second = post_events(event), post_events(event)

    assert (202, ["accepted"]) == (first.status_code, verdicts(first))
    assert (202, ["duplicate"]) == (second.status_code, verdicts(second))
    assert 1 == pending().count("repeated")


def test_another_source_may_use_the_same_id(post_events: Callable[..., httpx2.Response], structured: Any) -> None:
    """Ids belong to their source."""
    replies = [post_events(structured(source=source)) for source in ("/a", "/b", "/a")]

    assert [["accepted"], ["accepted"], ["duplicate"]] == [verdicts(reply) for reply in replies]


def test_a_name_given_to_another_user_too_is_told_apart_by_shard_alone(
    post_events: Callable[..., httpx2.Response], structured: Any, app_event: Any
) -> None:
    """Names are to be unique, says CloudEvents: in one shard the second is a repeat, in another nobody notices."""
    users: dict[int, list[str]] = {}
    for number in range(40):
        users.setdefault(shard_of(f"user{number}", 4), []).append(f"user{number}")
    (first, same_shard, *_), (other_shard, *_) = list(users.values())[:2]

    sent = [structured(data=app_event(user_id=user)) for user in (first, same_shard, other_shard)]

    assert ["accepted", "duplicate", "accepted"] == [
        post_events(event).json()["events"][0]["verdict"] for event in sent
    ]


def test_concurrent_repeats_count_once(
    post_events: Callable[..., httpx2.Response], structured: Any, app_event: Any, pending: Callable[[], list[str]]
) -> None:
    """Of many senders of the same batch at the same time, exactly one is told accepted, event by event."""
    batch = [structured(str(i), data=app_event(user_id=f"concurrent-{i}")) for i in range(20)]

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(post_events, [batch] * 16))

    assert {202} == {reply.status_code for reply in replies}
    for place in range(20):
        assert 1 == [verdicts(reply)[place] for reply in replies].count("accepted")
    assert sorted(f"concurrent-{i}" for i in range(20)) == sorted(u for u in pending() if u.startswith("concurrent-"))


def test_one_bad_event_does_not_sink_the_batch(
    post_events: Callable[..., httpx2.Response], structured: Any, app_event: Any
) -> None:
    """Good events of a batch are taken, the bad one is named with every fault it has."""
    bad = app_event(timestamp="yesterday", user_id=7)
    del bad["event"]
    response = post_events([structured("1"), structured("2", data=bad), structured("3")])

    assert (202, ["accepted", "rejected", "accepted"]) == (response.status_code, verdicts(response))
    assert {"accepted": 2, "duplicate": 0, "rejected": 1, "retry": 0} == {
        name: response.json()[name] for name in ("accepted", "duplicate", "rejected", "retry")
    }
    assert [("wrong_type", "/user_id"), ("missing", "/event"), ("bad_timestamp", "/timestamp")] == [
        (fault["code"], fault["pointer"]) for fault in response.json()["events"][1]["faults"]
    ]


def test_nothing_acceptable_is_a_400(
    post_events: Callable[..., httpx2.Response], structured: Any, app_event: Any
) -> None:
    """A sender whose events are all bad must not take it for success, nor try again."""
    response = post_events([structured("1", data=app_event(user_id=None)), structured("2", data="text")])

    assert (400, ["rejected", "rejected"]) == (response.status_code, verdicts(response))


def test_a_repeat_within_the_batch_counts_once(
    post_events: Callable[..., httpx2.Response], structured: Any, app_event: Any, pending: Callable[[], list[str]]
) -> None:
    """Two events of one batch with the same name are one event."""
    event = structured(data=app_event(user_id="twice-in-batch"))

    assert ["accepted", "duplicate"] == verdicts(post_events([event, event]))
    assert 1 == pending().count("twice-in-batch")


def test_a_list_in_data_is_many_events(
    post_events: Callable[..., httpx2.Response], structured: Any, app_event: Any
) -> None:
    """A CloudEvent whose data is a list gets a verdict for each, and counts once as a whole when sent again."""
    event = structured(data=[app_event(), app_event(user_id=None), app_event(user_id="other")])

    assert ["accepted", "rejected", "accepted"] == verdicts(post_events(event))
    assert ["duplicate", "rejected", "duplicate"] == verdicts(post_events(event))


def test_a_batch_seen_in_part_writes_the_rest(post_events: Callable[..., httpx2.Response], structured: Any) -> None:
    """Events seen before are left out, the others of the same shard are written."""
    post_events([structured("1"), structured("3")])

    assert ["duplicate", "accepted", "duplicate", "accepted"] == verdicts(
        post_events([structured(number) for number in "1234"])
    )


def test_an_empty_batch_is_fine(post_events: Callable[..., httpx2.Response]) -> None:
    """An empty batch is no mistake (JSON format §4)."""
    response = post_events([])

    assert (202, []) == (response.status_code, verdicts(response))


def test_a_broker_gets_an_empty_success(
    post_events: Callable[..., httpx2.Response], structured: Any, app_event: Any
) -> None:
    """Knative takes a body that is no CloudEvent for a failure; a bad event is a 400 all the same."""
    event = structured()

    for _ in range(2):
        response = post_events(event, prefer="reply")
        assert (204, b"") == (response.status_code, response.content)
    assert 400 == post_events(structured("2", data=app_event(user_id=None)), prefer="reply").status_code


def test_a_sender_may_ask_for_less(
    post_events: Callable[..., httpx2.Response], structured: Any, app_event: Any
) -> None:
    """Prefer: return=minimal leaves the accepted events out of the list; what has to be acted on stays."""
    bad = structured("2", data=app_event(user_id=7))
    response = post_events([structured("1"), bad, structured("1")], prefer="return=minimal")

    assert "return=minimal" == response.headers["preference-applied"]
    assert (1, 1, 1) == tuple(response.json()[name] for name in ("accepted", "duplicate", "rejected"))
    assert [(1, "rejected"), (2, "duplicate")] == [(e["index"], e["verdict"]) for e in response.json()["events"]]
    assert "wrong_type" == response.json()["events"][0]["faults"][0]["code"]


def test_the_older_interface_answers_with_the_report(ingest: httpx2.Client) -> None:
    """The array of one that apps have always sent is taken, and answered with the report's array."""
    response = ingest.post(
        "/api/process",
        content='[{"timestamp":"2018-10-01T13:54:59-04:00","user_id":"9ea6","event":"shopping_list_open",'
        '"flyer_id":"","merchant_id":""}]',
        headers={"content-type": "application/json"},
    )

    assert (200, [], "1") == (response.status_code, response.json(), response.headers["flyertime-accepted"])


def test_an_idempotency_key_gives_an_array_the_dedupe_of_cloud_events(ingest: httpx2.Client, app_event: Any) -> None:
    """An array sent again under its key counts once; without a key each one counts."""
    body = json.dumps([app_event(), app_event(user_id="second")])
    counts = [
        ingest.post("/api/process", content=body, headers={"content-type": "application/json", **key}).headers
        for key in ({"idempotency-key": "k1"}, {"idempotency-key": "k1"}, {"idempotency-key": "k2"}, {}, {})
    ]

    assert ["2", "0", "2", "2", "2"] == [count["flyertime-accepted"] for count in counts]
    assert ["0", "2", "0", "0", "0"] == [count["flyertime-duplicate"] for count in counts]


def test_health_is_answered(ingest: httpx2.Client) -> None:
    """The older health check answers as it always did."""
    assert {"status": "OK"} == ingest.get("/api/health").json()


JSON, STRUCTURED, BATCH = "application/json", "application/cloudevents+json", "application/cloudevents-batch+json"


@pytest.mark.parametrize(
    ("request_line", "content_type", "body", "status", "code"),
    [
        pytest.param("POST /", JSON, b"{}", 400, "not_a_cloudevent", id="no event"),
        pytest.param("POST /", "text/plain", b"x", 415, "not_a_cloudevent", id="plain text"),
        pytest.param("POST /", "application/cloudevents+xml", b"", 415, "unsupported_format", id="xml"),
        pytest.param("POST /", STRUCTURED, b"{", 400, "bad_json", id="cut off"),
        pytest.param("POST /", STRUCTURED, b"[" * 1000 + b"]" * 1000, 400, "bad_json", id="nested"),
        pytest.param("POST /", BATCH, b"{}", 400, "not_a_batch", id="no batch"),
        pytest.param("POST /", BATCH, b"[" + b"0," * 50 + b"0]", 413, "too_many_events", id="too many"),
        pytest.param("POST /", STRUCTURED, b" " * 20_001, 413, "body_too_large", id="large"),
        pytest.param("POST /", f"{STRUCTURED}; charset=utf-16", b"{}", 415, "unsupported_charset", id="charset"),
        pytest.param("POST /api/process", JSON, b"{}", 400, "not_an_array", id="object"),
        pytest.param("POST /api/process", "text/csv", b"[]", 415, "unsupported_format", id="csv"),
        pytest.param("PUT /", JSON, b"", 405, "method_not_allowed", id="put"),
        pytest.param("GET /api/process", JSON, b"", 405, "method_not_allowed", id="get"),
        pytest.param("POST /elsewhere", JSON, b"", 404, "no_such_path", id="path"),
    ],
)
def test_a_request_that_cannot_be_taken_says_why(
    ingest: httpx2.Client, request_line: str, content_type: str, body: bytes, status: int, code: str
) -> None:
    """Refusals are problem details with a stable code, and never a 5xx."""
    method, _, path = request_line.partition(" ")
    response = ingest.request(method, path, headers={"content-type": content_type}, content=body)

    assert (status, code) == (response.status_code, response.json()["code"])
    assert "application/problem+json" == response.headers["content-type"]


@pytest.mark.parametrize("twice", ["ce-id", "ce-source", "ce-subject", "ce-own"])
def test_an_attribute_that_comes_twice_is_none(ingest: httpx2.Client, structured: Any, twice: str) -> None:
    """Put together it would be a name that nobody gave; other headers may come twice, and so may what is not read."""
    event = structured(subject="s", own="x")
    attributes = [(f"ce-{name}", value) for name, value in event.items() if name != "data"]
    binary = [("content-type", "application/json"), ("prefer", "a"), ("prefer", "return=minimal"), *attributes]
    again = (twice, dict(attributes)[twice])

    refused = ingest.post("/", json=event["data"], headers=[*binary, again])
    taken = ingest.post("/", json=event["data"], headers=binary)
    whole = [("content-type", "application/cloudevents+json"), *attributes, again]
    repeated = ingest.post("/", content=json.dumps(event), headers=whole)

    assert (400, "not_a_cloudevent") == (refused.status_code, refused.json()["code"])
    assert (202, 1) == (taken.status_code, taken.json()["accepted"])
    assert (202, 1) == (repeated.status_code, repeated.json()["duplicate"])


def test_a_body_that_hides_its_length_is_still_limited(ingest: httpx2.Client) -> None:
    """The limit holds for chunked bodies, which announce no length."""
    response = ingest.post(
        "/",
        content=(b" " * 1000 for _ in range(1000)),
        headers={"content-type": "application/cloudevents+json"},
    )

    assert 413 == response.status_code
