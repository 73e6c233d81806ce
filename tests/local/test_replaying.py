"""Replay against a real HTTP server that behaves badly: nothing is lost, and nothing gets another name."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters.cloud_events import Received, decode
from functions.local.reading import BadRecord
from functions.local.replaying import Pace, Summary, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DATA = {"timestamp": "2018-10-01T13:54:59Z", "user_id": "u", "event": "e", "flyer_id": "", "merchant_id": ""}
EVENTS = [
    {"specversion": "1.0", "id": f"ä {number}", "source": "/s", "type": "t", "data": DATA} for number in range(50)
]


class Ingest:
    """A stand-in that answers as told, and remembers which ids it has accepted."""

    def __init__(self) -> None:
        self.accepted: Counter[str] = Counter()
        self.requests: list[list[str]] = []
        self.answer: Callable[[int, Sequence[str]], tuple[int, dict[str, str], object] | None] = self.accept
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                received = decode({name.lower(): value for name, value in self.headers.items()}, body)
                ids = [event.id for event in received if isinstance(event, Received)]
                with stand_in.lock:
                    stand_in.requests.append(ids)
                    answer = stand_in.answer(len(stand_in.requests), ids)
                if answer is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                status, headers, reply = answer
                content = b"" if reply is None else json.dumps(reply).encode()
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True).start()

    def accept(self, _: int, ids: Sequence[str]) -> tuple[int, dict[str, str], object]:
        """Take all."""
        verdicts = ["duplicate" if event_id in self.accepted else "accepted" for event_id in ids]
        self.accepted.update(ids)
        return 202, {}, {"events": [{"verdict": verdict} for verdict in verdicts]}


@pytest.fixture
def ingest() -> Iterator[Ingest]:
    """A stand-in for ingest."""
    stand_in = Ingest()
    yield stand_in
    stand_in.server.shutdown()
    stand_in.server.server_close()


def send(url: str, events: Sequence[dict[str, Any] | BadRecord] = EVENTS, **pace: Any) -> Summary:
    """Replay and return the summary."""
    return asyncio.run(replay(iter(events), url, Pace(**{"batch_events": 10, **pace})))


@pytest.mark.parametrize("mode", ["batch", "structured", "binary"])
def test_every_mode_sends_every_event_once(ingest: Ingest, mode: str) -> None:
    """Ids arrive as they are, whatever characters are in them."""
    summary = send(ingest.url, mode=mode)

    assert {event["id"]: 1 for event in EVENTS} == ingest.accepted
    assert ({"accepted": 50}, True) == (summary.counts, summary.complete)
    assert (5 if mode == "batch" else 50) == summary.requests


def test_a_refusal_for_now_is_tried_again_after_the_time_it_names(ingest: Ingest) -> None:
    """503 with Retry-After: the same events come again."""

    def answer(number: int, ids: Sequence[str]) -> tuple[int, dict[str, str], object]:
        return (503, {"retry-after": "1"}, {"detail": "busy"}) if number <= 2 else ingest.accept(number, ids)

    ingest.answer = answer
    summary = send(ingest.url, EVENTS[:10], senders=1)

    assert ({"accepted": 10}, 2) == (summary.counts, summary.retries)
    assert summary.seconds >= 2


def test_only_events_that_said_retry_are_sent_again(ingest: Ingest) -> None:
    """Verdicts are per event."""

    def answer(number: int, ids: Sequence[str]) -> tuple[int, dict[str, str], object]:
        if number > 1:
            return ingest.accept(number, ids)
        verdicts = ["retry" if place % 2 else "accepted" for place in range(len(ids))]
        return 503, {}, {"events": [{"verdict": verdict} for verdict in verdicts]}

    ingest.answer = answer
    summary = send(ingest.url, EVENTS[:10], senders=1)

    assert {"accepted": 10} == summary.counts
    assert [event["id"] for event in EVENTS[1:10:2]] == ingest.requests[1]


def test_a_connection_that_breaks_is_tried_again_under_the_same_ids(ingest: Ingest) -> None:
    """Nobody knows whether the events were taken; the id tells the repeat."""

    def answer(number: int, ids: Sequence[str]) -> tuple[int, dict[str, str], object] | None:
        reply = ingest.accept(number, ids)
        return None if number == 1 else reply

    ingest.answer = answer
    summary = send(ingest.url, EVENTS[:10], senders=1)

    assert {"duplicate": 10} == summary.counts
    assert ingest.requests[0] == ingest.requests[1]


def test_rejected_events_are_final_and_say_why(ingest: Ingest) -> None:
    """A bad event is not sent again, and the summary is not complete."""

    def answer(_: int, ids: Sequence[str]) -> tuple[int, dict[str, str], object]:
        faults = [{"pointer": "/user_id", "reason": "is missing"}]
        return 400, {}, {"events": [{"verdict": "rejected", "faults": faults} for _ in ids]}

    ingest.answer = answer
    summary = send(ingest.url, EVENTS[:1])

    assert ({"rejected": 1}, False, 1) == (summary.counts, summary.complete, summary.requests)
    assert ["event ä 0: /user_id is missing"] == summary.reasons


def test_tries_are_limited_and_what_is_left_has_failed(ingest: Ingest) -> None:
    """A server that never takes anything ends the replay with the reason."""
    ingest.answer = lambda *_: (503, {}, {"detail": "never"})
    summary = send(ingest.url, EVENTS[:3], max_tries=2)

    assert ({"failed": 3}, False) == (summary.counts, summary.complete)
    assert "answered 503 never" in summary.reasons[0]


def test_a_refused_request_is_not_repeated(ingest: Ingest) -> None:
    """A 4xx for the request as a whole will not get better."""
    ingest.answer = lambda *_: (413, {}, {"detail": "too large"})
    summary = send(ingest.url, EVENTS[:3])

    assert ({"failed": 3}, 1) == (summary.counts, summary.requests)


def test_a_broker_that_takes_events_without_words_is_believed(ingest: Ingest) -> None:
    """A Knative broker answers 202 with nothing."""
    ingest.answer = lambda *_: (202, {}, None)

    assert {"accepted": 2} == send(ingest.url, EVENTS[:2], mode="structured").counts


def test_nobody_there_fails_with_the_address() -> None:
    """The reason says where nobody answered."""
    summary = send("http://127.0.0.1:9/", EVENTS[:1], max_tries=1)

    assert {"failed": 1} == summary.counts
    assert "http://127.0.0.1:9/" in summary.reasons[0]


def test_unreadable_records_are_counted_and_told(ingest: Ingest) -> None:
    """They are not sent, and the summary is not complete."""
    summary = send(ingest.url, [EVENTS[0], BadRecord("line 2", "not JSON"), EVENTS[1]])

    assert ({"accepted": 2, "unreadable": 1}, False) == (summary.counts, summary.complete)
    assert ["line 2: not JSON"] == summary.reasons


def test_a_rate_spreads_the_events(ingest: Ingest) -> None:
    """Fifty events at a hundred a second take the time of the batches before the last."""
    summary = send(ingest.url, rate_events_s=100)

    assert {"accepted": 50} == summary.counts
    assert summary.seconds >= 0.35
