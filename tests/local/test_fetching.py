"""`flyertime report` against a server that misbehaves as real ones do: what is not whole does not count."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from functions.cli import EXIT_TRY_AGAIN, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result

ROWS = b'[{"user_id":"a","avg_time_on_flyer_per_user_hours":0.5}]'


def whole(handler: BaseHTTPRequestHandler) -> None:
    """Answer properly."""
    handler.send_response(200)
    handler.send_header("content-length", str(len(ROWS)))
    handler.end_headers()
    handler.wfile.write(ROWS)


def cut_chunks(handler: BaseHTTPRequestHandler) -> None:
    """Break off a streamed answer, as the report does where its store fails in between."""
    handler.send_response(200)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"%x\r\n%b\r\n" % (len(ROWS), ROWS))


def cut_length(handler: BaseHTTPRequestHandler) -> None:
    """Send less than was announced."""
    handler.send_response(200)
    handler.send_header("content-length", str(2 * len(ROWS)))
    handler.end_headers()
    handler.wfile.write(ROWS)


def problem(status: int) -> Callable[[BaseHTTPRequestHandler], None]:
    """Refuse with problem details."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = json.dumps({"code": "c", "detail": "this is why"}).encode()
        handler.send_response(status)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


class StandIn:
    """A server that answers as told and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[BaseHTTPRequestHandler], None] = whole
        self.asked: list[tuple[str, str | None]] = []
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stand_in.asked.append((self.path, self.headers.get("authorization")))
                self.close_connection = True
                stand_in.answer(self)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def server() -> Iterator[StandIn]:
    """A running stand-in."""
    stand_in = StandIn()
    thread = threading.Thread(target=stand_in.server.serve_forever, args=(0.01,))
    thread.start()
    yield stand_in
    stand_in.server.shutdown()
    thread.join()
    stand_in.server.server_close()


def report(server: StandIn, *arguments: str, **environment: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["report", "--from", server.url, *arguments], env=environment)


@pytest.mark.parametrize("answer", [cut_chunks, cut_length], ids=["chunks", "length"])
def test_an_answer_that_breaks_off_is_an_error_and_leaves_the_file_as_it_was(
    server: StandIn, tmp_path: Path, answer: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    """Neither a part of the new nor nothing stands in the file, and nothing is left beside it."""
    path = tmp_path / "report.json"
    path.write_text("before")
    server.answer = answer
    done = report(server, "--format", "json", "--output", str(path))

    assert (EXIT_TRY_AGAIN, "before", [path]) == (done.exit_code, path.read_text(), list(tmp_path.iterdir()))
    assert "broke off" in done.output


@pytest.mark.parametrize("answer", [cut_chunks, cut_length], ids=["chunks", "length"])
def test_an_answer_that_breaks_off_in_a_pipe_is_an_error_too(
    server: StandIn, answer: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    """What was written before stands there, and the exit status says that it is not the whole."""
    server.answer = answer

    assert EXIT_TRY_AGAIN == report(server, "--format", "json").exit_code


def test_a_whole_answer_takes_the_files_place(server: StandIn, tmp_path: Path) -> None:
    """The file has the bytes that came."""
    path = tmp_path / "report.json"
    path.write_text("before")
    done = report(server, "--format", "json", "--output", str(path))

    assert (0, ROWS, [path]) == (done.exit_code, path.read_bytes(), list(tmp_path.iterdir()))


def test_a_file_that_cannot_be_written_is_said_so(server: StandIn, tmp_path: Path) -> None:
    """Without a traceback."""
    done = report(server, "--format", "csv", "--output", str(tmp_path / "no" / "report.csv"))

    assert 2 == done.exit_code
    assert "cannot be written: No such file or directory" in done.output


@pytest.mark.parametrize(
    ("status", "code"), [(401, 2), (403, 2), (400, 2), (429, EXIT_TRY_AGAIN), (503, EXIT_TRY_AGAIN)]
)
def test_a_refusal_is_one_line_with_its_reason(server: StandIn, status: int, code: int) -> None:
    """The exit status tells what to mend from what to try again."""
    server.answer = problem(status)
    done = report(server, "--format", "csv")

    assert code == done.exit_code
    assert f"answered {status}: this is why" in done.output


def test_the_key_is_a_header_and_in_no_address(server: StandIn) -> None:
    """From the environment or an option; an error does not repeat it either."""
    server.answer = problem(401)
    done = [report(server, "--format", "csv", FLYERTIME_READ_KEY="ftr_a"), report(server, "--json", "--key", "ftr_b")]

    assert [("/?format=csv", "Bearer ftr_a"), ("/?format=json", "Bearer ftr_b")] == server.asked
    assert not any("ftr_" in each.output for each in done)


def test_filters_go_into_the_query(server: StandIn) -> None:
    """With the names that the report has for them; an id is percent-encoded in the path."""
    report(
        server, "--merchant", "a/b ..", "--min-sessions", "2", "--min-hours", "0.5", "--max-hours", "3",
        "--sort", "-hours", "--fields", "all", "--prefix", "ä", "--limit", "7", "--format", "ndjson",
    )  # fmt: skip

    path, _, query = server.asked[0][0].partition("?")
    assert "/merchants/a%2Fb%20%2E%2E" == path
    assert {
        "min_sessions=2", "min_hours=0.5", "max_hours=3", "sort=-hours", "fields=all", "prefix=%C3%A4", "limit=7",
        "format=ndjson",
    } == set(query.split("&"))  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [("--user", "a", "--merchants"), ("--user", "a", "--limit", "3"), ("--summary", "--merchants"), ("--limit", "0")],
    ids=" ".join,
)
def test_questions_that_do_not_go_together_are_refused(server: StandIn, arguments: tuple[str, ...]) -> None:
    """Before anything is asked."""
    done = report(server, *arguments)

    assert (2, []) == (done.exit_code, server.asked)
