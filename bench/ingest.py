"""Ingest against the common way to do it, and against a function that does nothing.

All sides run in turn, round after round, each with a store of its own whose append-only file is on; figures are
medians. The common way is a ``cloud_event`` function that pushes the event's JSON onto a Redis list: one process, as
ingest is one, in the better of functions-framework's configurations, both of which take part in every round.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import redis

from bench.printing import print_measured
from bench.serving import Served, processor_s, requests_a_second, resident_bytes, served
from functions.local.valkey import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CONNECTIONS: Final = 64
BATCH_CONNECTIONS: Final = 16
BATCH_EVENTS: Final = 500

_COMMON: Final = (
    "-m", "functions_framework", "--source", "bench/ingest_sides/common.py", "--target", "push",
    "--signature-type", "cloudevent", "--host", "127.0.0.1", "--port", "{port}",
)  # fmt: skip
_COMMON_CONFIGURATIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "8 threads": {"THREADS": "8"},
    "1 thread": {"THREADS": "1"},
}
_INGEST: Final = ("-m", "functions.server", "--host", "127.0.0.1", "--port", "{port}")
_EMPTY: Final = ("-m", "bench.ingest_sides.empty", "{port}")
_FLOOR: Final = ("-m", "bench.ingest_sides.floor", "{port}")


PARTS: Final = ("rates", "durability", "memory", "starts")


def run(rounds: int, seconds: int, parts: Sequence[str] = PARTS) -> None:
    """Print ingest's figures, all or those of some parts."""
    with tempfile.TemporaryDirectory(prefix="flyertime-bench-") as folder:
        if "rates" in parts:
            _rates(Path(folder), rounds, seconds)
        if "durability" in parts:
            _durability(Path(folder), rounds, seconds)
        if "memory" in parts:
            _memory(Path(folder), seconds)
        if "starts" in parts:
            _starts(Path(folder), rounds)


@contextmanager
def _fresh(
    folder: Path, command: Sequence[str], environment: Mapping[str, str], path: str, body: bytes | None = None
) -> Iterator[Served]:
    """Serve a side with an empty store of its own: what is loaded earlier, or longer, leaves nothing to the next."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as data,
        EmbeddedValkey(Path(data)) as store,
        served(command, {**_ingest_environment(store), **environment}, path, body=body) as server,
    ):
        yield server


def _ingest_environment(store: EmbeddedValkey) -> dict[str, str]:
    return {"FUNCTION_TARGET": "ingest", "FLYERTIME_REDIS_URL": store.url, "FLYERTIME_WRITE_AUTH": "off"}


def _rates(folder: Path, rounds: int, seconds: int) -> None:
    loads = defaultdict[str, list[_Load]](list)

    def single(side: str, command: Sequence[str], environment: Mapping[str, str], path: str = "/") -> None:
        with _fresh(folder, command, environment, path) as server:
            loads[side].append(_load(server, "single", CONNECTIONS, seconds))

    def batches(
        side: str,
        command: Sequence[str] = _INGEST,
        *,
        script: str = "batch",
        prefer: str | None = None,
        body: bytes | None = None,
        filled: str | None = None,
    ) -> None:
        with _fresh(folder, command, {}, "/" if body else "/healthz", body) as server:
            for name in (side, filled) if filled else (side,):
                load = _load(server, script, BATCH_CONNECTIONS, seconds, prefer)
                loads[name].append(_Load(load.per_s * BATCH_EVENTS, load.processor_us / BATCH_EVENTS))

    for _ in range(rounds):
        for name, environment in _COMMON_CONFIGURATIONS.items():
            single(name, _COMMON, environment)
        single("empty", _EMPTY, {})
        single("ingest", _INGEST, {}, "/healthz")
        batches("batch", filled="batch_filled")
        batches("batch_minimal", prefer="return=minimal")
        batches("list_minimal", script="list", prefer="return=minimal")
        batches("floor", _FLOOR, body=b"[]")
    rate = {side: statistics.median(load.per_s for load in some) for side, some in loads.items()}
    cost_us = {side: statistics.median(load.processor_us for load in some) for side, some in loads.items()}
    configuration = max(_COMMON_CONFIGURATIONS, key=lambda name: rate[name])
    rate["common"], cost_us["common"] = rate[configuration], cost_us[configuration]
    common_rates = {name: round(rate[name]) for name in _COMMON_CONFIGURATIONS}
    told = {"common_configuration": configuration, "common_configurations_per_s": common_rates, "rounds": rounds}
    print_measured(
        "ingest_single_vs_default", rate["ingest"] / rate["common"], "ratio",
        ingest_per_s=rate["ingest"], default_per_s=rate["common"], connections=CONNECTIONS,
        ingest_processor_us=cost_us["ingest"], default_processor_us=cost_us["common"],
        processor_ratio=cost_us["common"] / cost_us["ingest"], **told,
    )  # fmt: skip
    print_measured(
        "ingest_batch_vs_default", rate["batch"] / rate["common"], "ratio",
        ingest_events_per_s=rate["batch"], ingest_minimal_replies_events_per_s=rate["batch_minimal"],
        ingest_list_in_one_event_events_per_s=rate["list_minimal"],
        ingest_on_a_filled_store_events_per_s=rate["batch_filled"],
        default_events_per_s=rate["common"], batch_events=BATCH_EVENTS, connections=BATCH_CONNECTIONS,
        ingest_processor_us=cost_us["batch"], ingest_minimal_replies_processor_us=cost_us["batch_minimal"],
        ingest_list_in_one_event_processor_us=cost_us["list_minimal"],
        processor_ratio=cost_us["common"] / cost_us["batch"],
        floor_events_per_s=rate["floor"], floor_processor_us=cost_us["floor"],
    )  # fmt: skip
    print_measured(
        "ingest_share_of_server", rate["ingest"] / rate["empty"], "ratio",
        ingest_per_s=rate["ingest"], empty_per_s=rate["empty"], connections=CONNECTIONS,
        processor_ratio=cost_us["empty"] / cost_us["ingest"],
    )  # fmt: skip


class _Load(NamedTuple):
    """What a load came to."""

    per_s: float
    processor_us: float
    """Of the server, for each: what is left of a comparison where others use the machine too."""


def _load(server: Served, script: str, connections: int, seconds: int, prefer: str | None = None) -> _Load:
    before_s = processor_s(server.pid)
    per_s = requests_a_second(server.url, script, connections=connections, seconds=seconds, prefer=prefer)
    return _Load(per_s, (processor_s(server.pid) - before_s) / (per_s * seconds) * 1e6)


_DURABILITIES: Final[Mapping[str, tuple[str, str]]] = {
    "memory": ("everysec", "memory"),
    "fsync_always": ("always", "fsync"),
    "replicas": ("everysec", "replicas"),
}
"""What is asked for, to the store's appendfsync and the setting."""


def _durability(folder: Path, rounds: int, seconds: int) -> None:
    """What it costs to accept an event only when it is on disk, or on a replica."""
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        servers = {}
        for name, (appendfsync, durability) in _DURABILITIES.items():
            config = {"appendfsync": appendfsync, "repl-diskless-sync-delay": "0"}
            store = stack.enter_context(EmbeddedValkey(folder / name, config=config))
            if durability == "replicas":
                follows = {"replicaof": f"127.0.0.1 {store.port}"}
                stack.enter_context(EmbeddedValkey(folder / f"{name}-2", config=follows))
            environment = {**_ingest_environment(store), "FLYERTIME_DURABILITY": durability}
            servers[name] = stack.enter_context(served(_INGEST, environment, "/healthz"))
        for _ in range(rounds):
            for script, connections, events in (("single", CONNECTIONS, 1), ("batch", BATCH_CONNECTIONS, BATCH_EVENTS)):
                for name, server in servers.items():
                    per_s = requests_a_second(server.url, script, connections=connections, seconds=seconds)
                    rates[name, script].append(per_s * events)
    rate = {side: statistics.median(some) for side, some in rates.items()}
    for name in list(_DURABILITIES)[1:]:
        print_measured(
            f"ingest_durability_{name}", rate[name, "single"] / rate["memory", "single"], "ratio",
            single_per_s=rate[name, "single"], memory_single_per_s=rate["memory", "single"],
            single_ms=1000 * CONNECTIONS / rate[name, "single"],
            memory_single_ms=1000 * CONNECTIONS / rate["memory", "single"],
            batch_ratio=rate[name, "batch"] / rate["memory", "batch"],
            batch_events_per_s=rate[name, "batch"], memory_batch_events_per_s=rate["memory", "batch"],
        )  # fmt: skip


def _memory(folder: Path, seconds: int) -> None:
    """What an event costs the store while it is pending: in the log, in the ledger and in the dedupe window."""
    bytes_an_event: dict[str, float] = {}
    for side, script in (("single", "single"), ("batch", "batch"), ("json_list", "single")):
        with EmbeddedValkey(folder / f"memory-{side}") as store:
            client = redis.Redis.from_url(store.url)
            empty_bytes = client.info("memory")["used_memory"]
            command = _COMMON if side == "json_list" else _INGEST
            environment = {"THREADS": "8"} if side == "json_list" else {}
            with served(command, {**_ingest_environment(store), **environment}, "/healthz") as server:
                connections = BATCH_CONNECTIONS if script == "batch" else CONNECTIONS
                requests_a_second(server.url, script, connections=connections, seconds=seconds)
            held_bytes = client.info("memory")["used_memory"] - empty_bytes
            bytes_an_event[side] = held_bytes / _events_in(client)
            client.close()
    print_measured(
        "ingest_redis_bytes_per_event", bytes_an_event["batch"] / bytes_an_event["json_list"], "ratio",
        single_bytes=bytes_an_event["single"], batch_bytes=bytes_an_event["batch"],
        json_list_bytes=bytes_an_event["json_list"],
    )  # fmt: skip


def _events_in(client: redis.Redis) -> int:
    listed = int(client.llen("events"))
    return listed or sum(int(client.hget(key, "accepted") or 0) for key in client.scan_iter("*:ledger"))


def _starts(folder: Path, rounds: int) -> None:
    took_ms: dict[str, list[float]] = defaultdict(list)
    held_bytes: dict[str, list[float]] = defaultdict(list)
    with EmbeddedValkey(folder / "starts") as store:
        for _ in range(max(rounds, 5)):
            for side, command, environment, path in (
                ("empty", _EMPTY, {}, "/"),
                ("ingest", _INGEST, _ingest_environment(store), "/readyz"),
            ):
                with served(command, environment, path) as server:
                    took_ms[side].append(server.started_ms)
                    held_bytes[side].append(resident_bytes(server.pid))
    for name, unit, values in (
        ("ingest_cold_start_ms", "ms", took_ms),
        ("ingest_idle_resident_bytes", "bytes", held_bytes),
    ):
        middle = {side: statistics.median(some) for side, some in values.items()}
        print_measured(name, middle["ingest"], unit, empty=middle["empty"], ratio=middle["ingest"] / middle["empty"])
