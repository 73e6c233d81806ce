"""The report against the obvious handler and against a database that makes the body, as PostgREST has it.

All sides run on the same server, in turn, round after round, over the same users; figures are medians. A ratio is how
many times as long the other side takes: above 1 ours is ahead.
"""

from __future__ import annotations

import http.client
import random
import socket
import statistics
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import httptools

from bench.printing import print_measured
from bench.report_state import (
    change_as_a_run,
    change_store,
    change_unsummed,
    fill_databases,
    fill_store,
    user_of,
)
from bench.serving import Served, served
from functions.local.valkey import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

_Start: TypeAlias = "Callable[[str], AbstractContextManager[Served]]"
SIDES: Final = ("report", "obvious", "sqlite", "duckdb")
_SMALL_REPEATS: Final = 40
_USERS_ASKED: Final = 500
"""One after the other on one connection."""
_PIECE_BYTES: Final = 262_144


class Took(NamedTuple):
    """One answer."""

    first_s: float
    """To the first byte of the body."""
    total_s: float
    received_bytes: int


def run(rounds: int, sizes: list[int]) -> None:
    """Print all of the report's figures."""
    with tempfile.TemporaryDirectory(prefix="flyertime-bench-") as name, EmbeddedValkey(Path(name) / "store") as store:
        for users in sizes:
            start, namespace = _prepared(Path(name), store.url, users)
            change, as_a_run, unsummed = (
                partial(how, store.url, namespace) for how in (change_store, change_as_a_run, change_unsummed)
            )
            if users == max(sizes):
                _memory(start, users)
            with ExitStack() as stack:
                sides = {side: stack.enter_context(start(side)) for side in SIDES}
                for wanted in ("json", "csv"):
                    _whole(sides, change, users, wanted, rounds)
                    _anew(start, users, wanted, rounds)
                if users == max(sizes):
                    _small(sides, users, rounds)
                    _summaries(sides, {"": as_a_run, "_unsummed": unsummed}, users, rounds)
                    _summary_woken(start, as_a_run, users, rounds)


def _prepared(folder: Path, url: str, users: int) -> tuple[_Start, str]:
    """Put users into the store and the databases; return what starts a side, and the store's namespace."""
    namespace = f"r{users}"
    fill_store(url, namespace, users)
    databases = fill_databases(folder, users)
    environment = {
        "FUNCTION_TARGET": "report", "FLYERTIME_REDIS_URL": url, "FLYERTIME_NAMESPACE": namespace,
        "FLYERTIME_READ_AUTH": "off",
    }  # fmt: skip
    commands: dict[str, tuple[str, ...]] = {
        "report": ("-m", "functions.server", "--host", "127.0.0.1", "--port", "{port}"),
        "obvious": ("-m", "bench.report_sides.obvious", "{port}"),
        **{name: ("-m", "bench.report_sides.sql", "{port}", name, str(path)) for name, path in databases.items()},
    }
    return lambda side: served(commands[side], environment, "/healthz"), namespace


class _Answer:
    """Takes one answer as httptools' parser hands it on."""

    def __init__(self) -> None:
        self.received_bytes = 0
        self.first_s = 0.0
        self.is_complete = False

    def on_body(self, piece: bytes) -> None:
        """Take a part of the body."""
        self.first_s = self.first_s or time.perf_counter()
        self.received_bytes += len(piece)

    def on_message_complete(self) -> None:
        """Take the end."""
        self.is_complete = True


def _get(url: str, path: str, headers: Mapping[str, str] | None = None, status: int = 200) -> Took:
    """Ask on a connection of its own, whose making does not count, and read the answer to its end.

    By a parser in C: what Python's own client does with each header took as long as a small answer.
    """
    host = urlsplit(url)
    with socket.create_connection((host.hostname, host.port), timeout=300) as connection:
        return _get_over(connection, url, path, headers, status)


def _get_over(
    connection: socket.socket, url: str, path: str, headers: Mapping[str, str] | None = None, status: int = 200
) -> Took:
    """Ask on a connection that is there, and read the answer to its end."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"host: {urlsplit(url).netloc}",
        *(f"{name}: {text}" for name, text in (headers or {}).items()),
    ]
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    started_s = time.perf_counter()
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    while not answer.is_complete:
        received = connection.recv(_PIECE_BYTES)
        if not received:
            raise SystemExit(f"{url}{path} broke off")
        parser.feed_data(received)
    ended_s = time.perf_counter()
    if parser.get_status_code() != status:
        raise SystemExit(f"{url}{path} answered {parser.get_status_code()}")
    return Took((answer.first_s or ended_s) - started_s, ended_s - started_s, answer.received_bytes)


def _in_turn(sides: Mapping[str, Callable[[], Took]], rounds: int) -> dict[str, list[Took]]:
    """Ask each side once a round, in another order each: who comes next finds what the one before has left behind."""
    took: dict[str, list[Took]] = {side: [] for side in sides}
    order = [*sides]
    draw = random.Random(rounds)
    for _ in range(rounds):
        draw.shuffle(order)
        for side in order:
            took[side].append(sides[side]())
    return took


def _asking(server: Served, path: str) -> Callable[[], Took]:
    return lambda: _get(server.url, path)


def _print_ahead(name: str, took: Mapping[str, list[Took]], value: Callable[[Took], float], **told: object) -> None:
    middle = {side: statistics.median(value(each) for each in some) * 1000 for side, some in took.items()}
    times = {f"{side}_ms": ms for side, ms in middle.items()}
    others = [side for side in middle if side != "report"]
    ratios = {f"{side}_ratio": middle[side] / middle["report"] for side in others}
    print_measured(name, min(ratios[f"{side}_ratio"] for side in others), "ratio", **ratios, **times, **told)


def _print_both(name: str, took: Mapping[str, list[Took]], **told: object) -> None:
    told["mb"] = took["report"][0].received_bytes / 1e6
    _print_ahead(f"{name}_first_byte", took, lambda each: each.first_s, **told)
    _print_ahead(f"{name}_total", took, lambda each: each.total_s, **told)


def _whole(sides: Mapping[str, Served], change: Callable[[], None], users: int, wanted: str, rounds: int) -> None:
    """All users: asked after every shard of ours has changed, and again, which is what dashboards do.

    The others keep nothing, and so are asked the same twice.
    """
    path = f"/?format={wanted}"

    def changed() -> Took:
        change()
        return _get(sides["report"].url, path)

    for server in sides.values():
        _get(server.url, path)
    again = {side: _asking(server, path) for side, server in sides.items()}
    for name, asking in (("changed", {**again, "report": changed}), ("again", again)):
        took = _in_turn(asking, rounds)
        _print_both(f"report_{wanted}_{name}", took, users=users, rounds=rounds)


def _anew(start: _Start, users: int, wanted: str, rounds: int) -> None:
    """All users, asked of processes that nobody has asked for them: once these are at rest, and the moment they are up.

    The latter is how a function is asked that has scaled to zero; what starting took is told beside it.
    """
    path = f"/?format={wanted}"
    started_ms: dict[str, list[float]] = {side: [] for side in SIDES}

    def first(side: str) -> Took:
        with start(side) as server:
            _get(server.url, f"/users/{user_of(0)}")
            _settled_mb(server.pid)
            return _get(server.url, path)

    def woken(side: str) -> Took:
        with start(side) as server:
            started_ms[side].append(server.started_ms)
            return _get(server.url, path)

    took = _in_turn({side: partial(first, side) for side in SIDES}, rounds)
    _print_both(f"report_{wanted}_first", took, users=users, rounds=rounds)
    took = _in_turn({side: partial(woken, side) for side in SIDES}, rounds)
    started = {f"{side}_started_ms": statistics.median(some) for side, some in started_ms.items()}
    _print_both(f"report_{wanted}_woken", took, users=users, rounds=rounds, **started)


def _small(sides: Mapping[str, Served], users: int, rounds: int) -> None:
    """What is asked for often: one user, what has not changed, a page, a few numbers."""
    path = f"/users/{user_of(users // 2)}"
    took = _in_turn({side: _asking(server, path) for side, server in sides.items()}, _SMALL_REPEATS)
    _print_ahead("report_one_user", took, lambda each: each.total_s, users=users)
    one_after_another = _in_turn({side: partial(_many_users, server, users) for side, server in sides.items()}, rounds)
    about = {"users": users, "asked": _USERS_ASKED, "rounds": rounds}
    _print_ahead("report_one_user_after_another", one_after_another, lambda each: each.total_s, **about)

    ours = sides["report"]
    connection = http.client.HTTPConnection(urlsplit(ours.url).netloc)
    connection.request("HEAD", "/")
    etag = connection.getresponse().headers["etag"]
    connection.close()
    unchanged = [_get(ours.url, "/", {"if-none-match": etag}, 304).total_s * 1000 for _ in range(_SMALL_REPEATS)]
    whole_ms = _get(ours.url, "/").total_s * 1000
    middle_ms = statistics.median(unchanged)
    print_measured(
        "report_unchanged", whole_ms / middle_ms, "ratio", unchanged_ms=middle_ms, whole_ms=whole_ms, users=users
    )

    page = [_get(ours.url, "/?limit=100").total_s * 1000 for _ in range(rounds)]
    by_hours = [_get(ours.url, "/?limit=100&sort=-hours").total_s * 1000 for _ in range(rounds)]
    print_measured(
        "report_page", statistics.median(page), "ms", sorted_by_hours_ms=statistics.median(by_hours), users=users
    )


def _many_users(server: Served, users: int) -> Took:
    """Ask for many users one after the other on one connection, as apps and notebooks do; return the middle one."""
    host = urlsplit(server.url)
    with socket.create_connection((host.hostname, host.port), timeout=300) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        paths = [f"/users/{user_of(number * 7919 % users)}" for number in range(_USERS_ASKED)]
        took = sorted((_get_over(connection, server.url, path) for path in paths), key=lambda each: each.total_s)
    return took[len(took) // 2]


def _summaries(sides: Mapping[str, Served], changes: Mapping[str, Callable[[], None]], users: int, rounds: int) -> None:
    """A few numbers: the first time after a change, by what a run then does, and again.

    The others keep nothing, and so are asked the same each time. What a run takes for it is told beside it.
    """
    again = {side: _asking(server, "/summary") for side, server in sides.items()}
    again["report"]()
    for name, change in changes.items():
        changing_ms: list[float] = []

        def changed(change: Callable[[], None] = change, changing_ms: list[float] = changing_ms) -> Took:
            began_s = time.perf_counter()
            change()
            changing_ms.append((time.perf_counter() - began_s) * 1000)
            return _get(sides["report"].url, "/summary")

        took = _in_turn({**again, "report": changed}, rounds)
        changed_ms = statistics.median(changing_ms)
        told = {"users": users, "rounds": rounds, "changing_ms": changed_ms}
        _print_ahead(f"report_summary_first{name}", took, lambda each: each.total_s, **told)
    _print_ahead("report_summary", _in_turn(again, rounds), lambda each: each.total_s, users=users, rounds=rounds)


def _summary_woken(start: _Start, change: Callable[[], None], users: int, rounds: int) -> None:
    """A few numbers after a run, asked of processes the moment they are up."""
    started_ms: dict[str, list[float]] = {side: [] for side in SIDES}

    def woken(side: str) -> Took:
        if side == "report":
            change()
        with start(side) as server:
            started_ms[side].append(server.started_ms)
            return _get(server.url, "/summary")

    took = _in_turn({side: partial(woken, side) for side in SIDES}, rounds)
    started = {f"{side}_started_ms": statistics.median(some) for side, some in started_ms.items()}
    _print_ahead("report_summary_woken", took, lambda each: each.total_s, users=users, rounds=rounds, **started)


def _memory(start: _Start, users: int) -> None:
    """The most that a fresh process holds while it answers with everybody.

    Above what it held idle after a first small question; and above what it held before that, which for ours is less by
    the libraries that it imports once it knows how many users there are.
    """
    above_mb: dict[str, float] = {}
    for side in SIDES:
        for wanted in ("json", "csv"):
            with start(side) as server:
                unasked_mb = _memory_mb(server.pid, "VmRSS")
                _get(server.url, f"/users/{user_of(0)}")
                idle_mb = _settled_mb(server.pid)
                Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak begins anew
                _get(server.url, f"/?format={wanted}")
                peak_mb = _memory_mb(server.pid, "VmHWM")
                above_mb |= {
                    f"{side}_{wanted}_mb": peak_mb - idle_mb, f"{side}_{wanted}_above_unasked_mb": peak_mb - unasked_mb,
                }  # fmt: skip
    print_measured(
        "report_peak_above_idle",
        max(above_mb["report_json_mb"], above_mb["report_csv_mb"]),
        "MB",
        users=users,
        **above_mb,
    )


def _settled_mb(pid: int) -> float:
    """Return what a process holds once it holds the same for half a second."""
    held_mb = [0.0] * 5
    deadline_s = time.monotonic() + 60
    while len({*held_mb[-5:]}) > 1 or not held_mb[-1]:
        if time.monotonic() > deadline_s:
            raise SystemExit(f"the memory of process {pid} does not settle")
        time.sleep(0.1)
        held_mb.append(_memory_mb(pid, "VmRSS"))
    return held_mb[-1]


def _memory_mb(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))
