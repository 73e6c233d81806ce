"""What goes wrong while a report is sent: it is seen by whoever reads it. Processes are killed and readers dawdle."""

from __future__ import annotations

import functools
import hashlib
import http.client
import io
import json
import shutil
import socket
import time
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
import zstandard

from functions.core.settings import Settings
from functions.core.shards import Keys, shard_of
from functions.core.spans import Totals, pack_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import FunctionProcess, MakeServer, ServeFunction

SHARDS = 4
USERS = 400_000
"""Enough that neither the sockets' buffers nor what is read ahead hold the whole table."""
NAMESPACE = "failures"


@functools.cache
def parts() -> list[dict[bytes, bytes]]:
    """Return the users of each shard; their ids do not pack well."""
    parts: list[dict[bytes, bytes]] = [{} for _ in range(SHARDS)]
    for number in range(USERS):
        user = f"{hashlib.sha256(b'%d' % number).hexdigest()[:40]}-{number}"
        parts[shard_of(user, SHARDS)][user.encode()] = pack_totals(Totals(number, 1, 0, number * 10**6))
    return parts


def fill(server: EmbeddedValkey) -> None:
    """Put averages into a store, without the way over a fold."""
    keys = Keys(NAMESPACE)
    client = redis.Redis.from_url(server.url)
    client.hset(keys.layout, mapping={"shards": SHARDS, "format": 1, "pipeline": "p"})
    for shard, part in enumerate(parts()):
        names = [*part]
        for start in range(0, len(names), 20_000):
            client.hset(keys.averages(shard), mapping={name: part[name] for name in names[start : start + 20_000]})
        client.hset(keys.ledger(shard), mapping={"version": 1_700_000_000_000_000 + shard})
    client.close()


@pytest.fixture(scope="module")
def filled(make_server: MakeServer) -> Path:
    """The folder of a store that is full of users, and has stopped."""
    with make_server() as server:
        fill(server)
    return server.folder


@pytest.fixture
def own(
    filled: Path, make_server: MakeServer, serve_function: ServeFunction
) -> Iterator[tuple[EmbeddedValkey, FunctionProcess]]:
    """A store of the test's own, full of users, and a report that reads it."""
    with served(filled, make_server(), serve_function) as both:
        yield both


@pytest.fixture(scope="module")
def shared(
    filled: Path, make_server: MakeServer, serve_function: ServeFunction
) -> Iterator[tuple[EmbeddedValkey, FunctionProcess]]:
    """The same for tests that leave it as it is."""
    with served(filled, make_server(), serve_function) as both:
        yield both


@contextmanager
def served(
    filled: Path, server: EmbeddedValkey, serve_function: ServeFunction
) -> Iterator[tuple[EmbeddedValkey, FunctionProcess]]:
    """Start both, on a copy of what the store holds."""
    shutil.copytree(filled, server.folder, dirs_exist_ok=True)
    with server:
        settings = Settings(redis_url=server.url, namespace=NAMESPACE, shards=SHARDS)
        with serve_function("report", settings, FLYERTIME_READER_STALL_S="3") as process:
            yield server, process


@contextmanager
def opened(process: FunctionProcess, path: str, **headers: str) -> Iterator[http.client.HTTPResponse]:
    """Begin to read a report over a socket that buffers little, so that the sender has to wait for us."""
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=30)
    connection.sock = socket.socket()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sock.settimeout(30)
    connection.sock.connect(("127.0.0.1", process.port))
    connection.request("GET", path, headers=headers)
    try:
        yield connection.getresponse()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("name", "coding"),
    [("json", "identity"), ("csv", "gzip"), ("ndjson", "zstd"), ("arrow", "identity"), ("parquet", "identity")],
)
def test_a_store_that_dies_breaks_the_reply_off(
    own: tuple[EmbeddedValkey, FunctionProcess], name: str, coding: str
) -> None:
    """A reader in the middle of a table gets an error of the protocol, not a short table; so in every format."""
    server, process = own
    with opened(process, f"/?format={name}", **{"accept-encoding": coding}) as answer:
        assert 200 == answer.status
        begun = answer.read(1000)
        server.kill()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()
    log = process.log.read_text()

    assert len(begun) == 1000
    assert "a reply is broken off: the store does not answer" in log
    assert "Traceback" not in log


def test_a_store_that_is_gone_beforehand_is_a_503(own: tuple[EmbeddedValkey, FunctionProcess]) -> None:
    """Nothing has been sent by then, so it can be told with a status."""
    server, process = own
    server.kill()
    answer = httpx2.get(process.url, timeout=30, trust_env=False)

    assert (503, "store_unavailable") == (answer.status_code, answer.json()["code"])
    assert answer.headers["retry-after"]


def test_a_client_library_says_so_too(own: tuple[EmbeddedValkey, FunctionProcess]) -> None:
    """What httpx2 raises, with a store that is killed while it reads."""
    server, process = own

    with httpx2.stream("GET", f"{process.url}/", timeout=30, trust_env=False) as answer:
        pieces = answer.iter_bytes(1000)
        next(pieces)
        server.kill()
        with pytest.raises(httpx2.RemoteProtocolError):
            list(pieces)


def test_a_part_of_any_format_is_no_table(shared: tuple[EmbeddedValkey, FunctionProcess]) -> None:
    """Also where something in between hides that the connection broke: it does not parse, or its packing ends early."""
    _, process = shared
    whole = {
        name: httpx2.get(f"{process.url}/?format={name}", timeout=60, headers={"accept-encoding": "identity"}).content
        for name in ("json", "arrow", "parquet")
    }
    packed: dict[str, bytes] = {}
    for coding in ("gzip", "zstd"):
        with httpx2.stream(
            "GET", f"{process.url}/?format=csv", headers={"accept-encoding": coding}, timeout=60, trust_env=False
        ) as answer:
            assert coding == answer.headers["content-encoding"]
            packed[coding] = b"".join(answer.iter_raw())

    with pytest.raises(json.JSONDecodeError):
        json.loads(whole["json"][:-1])
    with pytest.raises((pa.ArrowInvalid, OSError)):
        pa.ipc.open_stream(whole["arrow"][: len(whole["arrow"]) // 2]).read_all()
    with pytest.raises(pa.ArrowInvalid):
        pq.read_table(io.BytesIO(whole["parquet"][:-1]))
    unpackers: dict[str, Callable[[], Any]] = {
        "gzip": lambda: zlib.decompressobj(wbits=31), "zstd": zstandard.ZstdDecompressor().decompressobj,
    }  # fmt: skip
    for coding, unpacker in unpackers.items():
        whole_one, cut_one = unpacker(), unpacker()
        assert USERS + 1 == whole_one.decompress(packed[coding]).count(b"\r\n")
        cut_one.decompress(packed[coding][:-1])
        assert (True, False) == (whole_one.eof, cut_one.eof)


def test_a_reader_who_stops_is_cut_off(shared: tuple[EmbeddedValkey, FunctionProcess]) -> None:
    """It holds a shard in memory; after a while its connection is closed, and what it then reads is an error."""
    _, process = shared
    with opened(process, "/") as answer:
        answer.read(1000)
        deadline = time.monotonic() + 20
        while "a reader took nothing" not in process.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()


def test_a_slow_reader_gets_everything_and_others_meanwhile_too(shared: tuple[EmbeddedValkey, FunctionProcess]) -> None:
    """One who reads on, however slowly, is not cut off, and holds nobody up."""
    _, process = shared
    with opened(process, "/?format=csv&fields=all") as answer:
        read = [answer.read(1_000_000)]
        for _ in range(20):
            time.sleep(0.25)  # altogether longer than who takes nothing is waited for
            read.append(answer.read(500_000))
            assert 404 == httpx2.get(f"{process.url}/users/x", timeout=10, trust_env=False).status_code
        read.append(answer.read())

    assert USERS == b"".join(read).count(b"\r\n") - 1


def test_a_reader_as_slow_as_a_bad_line_is_not_cut_off(shared: tuple[EmbeddedValkey, FunctionProcess]) -> None:
    """At 8 KB a second, for several times as long as who takes nothing is waited for: any progress is progress."""
    _, process = shared
    with opened(process, "/?format=csv&fields=all") as answer:
        lines = answer.read(4096).count(b"\n")
        for _ in range(24):
            time.sleep(0.5)  # 12 s altogether, four times the limit
            lines += answer.read(4096).count(b"\n")
        while part := answer.read(1_000_000):
            lines += part.count(b"\n")

    assert USERS == lines - 1


def test_a_reader_who_leaves_leaves_nothing_behind(shared: tuple[EmbeddedValkey, FunctionProcess]) -> None:
    """The store is not read on for it, and the log has no error."""
    server, process = shared
    client = redis.Redis.from_url(server.url)
    with opened(process, "/") as answer:
        answer.read(1000)
    time.sleep(0.5)
    client.config_resetstat()
    time.sleep(1)
    stats: Any = client.info("commandstats")

    assert "cmdstat_hgetall" not in stats
    assert "Traceback" not in process.log.read_text()
    assert 200 == httpx2.get(f"{process.url}/summary", timeout=10, trust_env=False).status_code
    client.close()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?format=csv&fields=all",
        "/?format=arrow&fields=all",
        "/?format=parquet&fields=all",
        "/?limit=50000&sort=-hours",
        "/?sort=user_id",
        "/summary",
    ],
)
def test_memory_stays_bounded(
    shared: tuple[EmbeddedValkey, FunctionProcess], serve_function: ServeFunction, path: str
) -> None:
    """Of 400,000 users: any table, and a page of 50,000 by a number, take less than 100 MB above an idle process.

    Idle is one that knows how many users there are, and has imported what it needs for so many.
    """
    server, _ = shared
    settings = Settings(redis_url=server.url, namespace=NAMESPACE, shards=SHARDS)
    with serve_function("report", settings) as process:
        httpx2.get(f"{process.url}/users/x", trust_env=False)
        idle_mb = settled_mb(process)
        with httpx2.stream("GET", process.url + path, timeout=60, trust_env=False) as answer:
            assert sum(map(len, answer.iter_raw())) > 0
        assert memory_mb(process, "VmHWM") - idle_mb < 100


def test_answers_of_many_kinds_hold_little_together(
    shared: tuple[EmbeddedValkey, FunctionProcess], serve_function: ServeFunction
) -> None:
    """What is kept of all that was asked, and what that has left free, is less than 100 MB above an idle process."""
    server, _ = shared
    settings = Settings(redis_url=server.url, namespace=NAMESPACE, shards=SHARDS)
    paths = ["/", "/?format=csv", "/summary", "/?format=csv&fields=all", "/?limit=50000&sort=-hours", "/?limit=100"]
    with serve_function("report", settings) as process:
        idle_mb = settled_mb(process)
        for path in [*paths, "/users/x", "/?format=ndjson", "/merchants", "/?sort=user_id", "/?min_sessions=2", *paths]:
            with httpx2.stream("GET", process.url + path, timeout=60, trust_env=False) as answer:
                assert sum(map(len, answer.iter_raw())) > 0
        assert settled_mb(process) - idle_mb < 100


def test_a_process_that_nobody_asks_gets_ready_for_many_users(
    shared: tuple[EmbeddedValkey, FunctionProcess], serve_function: ServeFunction
) -> None:
    """Whoever asks first does not wait for what so many need."""
    server, _ = shared
    settings = Settings(redis_url=server.url, namespace=NAMESPACE, shards=SHARDS)
    with serve_function("report", settings) as process:
        settled_mb(process)  # once it has Arrow's kernels


def settled_mb(process: FunctionProcess) -> float:
    """Return what a process holds once it has Arrow's kernels, and for half a second neither takes nor frees memory."""
    maps = Path(f"/proc/{process.process.pid}/maps")
    held_mb: list[float] = []
    deadline = time.monotonic() + 30
    while len(held_mb) < 5 or len({*held_mb[-5:]}) > 1 or "libarrow_compute" not in maps.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
        held_mb.append(memory_mb(process, "VmRSS"))
    return held_mb[-1]


def memory_mb(process: FunctionProcess, name: str) -> float:
    """Return a figure of a process's memory."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(name))


def test_a_shard_of_any_size_is_read_whole_and_in_order(own: tuple[EmbeddedValkey, FunctionProcess]) -> None:
    """More users in each shard than are held at a time: it is read in several passes."""
    server, process = own
    client = redis.Redis.from_url(server.url)
    keys = Keys(NAMESPACE)
    assert 90_000 < client.hlen(keys.averages(0))
    more = {f"more-{number}".encode(): pack_totals(Totals(0, 1, 0, 0)) for number in range(150_000)}
    for shard in range(SHARDS):
        client.hset(
            keys.averages(shard),
            mapping={name: value for name, value in more.items() if shard_of(name.decode(), SHARDS) == shard},
        )
    client.close()
    rows = httpx2.get(f"{process.url}/?fields=user_id", timeout=60, trust_env=False).json()
    names = [row["user_id"] for row in rows]
    page = httpx2.get(f"{process.url}/?limit=50000&sort=-user_id", timeout=60, trust_env=False).json()

    assert USERS + 150_000 == len(names) == len(set(names))
    assert sorted(names, key=lambda name: (shard_of(name, SHARDS), name)) == names
    assert sorted(names, reverse=True)[:50_000] == [row["user_id"] for row in page["rows"]]


def test_a_table_in_the_order_of_ids_is_whole_however_many_there_are(
    shared: tuple[EmbeddedValkey, FunctionProcess],
) -> None:
    """It is read in ranges, over all shards; everybody comes once, and in order."""
    _, process = shared
    for sort, descending in (("user_id", False), ("-user_id", True)):
        answer = httpx2.get(f"{process.url}/?fields=user_id&sort={sort}", timeout=60, trust_env=False)
        names = [row["user_id"] for row in answer.json()]
        assert USERS == len(set(names)) == len(names)
        assert sorted(names, reverse=descending) == names


def test_too_many_rows_in_the_order_of_a_number_are_asked_for_in_pages(
    shared: tuple[EmbeddedValkey, FunctionProcess],
) -> None:
    """Before anything is sent, with a word on what would do; a filter that leaves few enough does too."""
    _, process = shared
    refused = httpx2.get(f"{process.url}/?sort=-hours", timeout=60, trust_env=False)
    few = httpx2.get(f"{process.url}/?sort=-hours&min_hours=110", timeout=60, trust_env=False).json()
    hours = [row["avg_time_on_flyer_per_user_hours"] for row in few]

    assert (400, "sort_needs_limit") == (refused.status_code, refused.json()["code"])
    assert hours == sorted(hours, reverse=True)
    assert sum(1 for number in range(USERS) if (number + 18) // 36 >= 11_000) == len(few)
