"""What the functions count: the whole catalogue, named by the conventions of Prometheus and of OpenTelemetry.

HTTP and the store's trips have OpenTelemetry's names, so that dashboards which know those fit; all else begins with
``flyertime_``. docs/operations.md has the same table, written by scripts/tables.py. Who counts in a hot place
takes the child once (``EVENTS.of("accepted")``) and keeps it.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from functions.adapters import tracing
from functions.core.instruments import counter, gauge, histogram

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from functions.core.instruments import Count, Distribution, Instrument

ALL: Final = ("ingest", "trigger", "report")
_INGEST: Final = ("ingest",)
_TRIGGER: Final = ("trigger",)
_REPORT: Final = ("report",)

_REQUEST_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_STORE_BOUNDS_S: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)
_BODY_BOUNDS_BYTES: Final = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 8_388_608)
_EVENTS_BOUNDS: Final = (1, 10, 50, 100, 500, 1000, 5000, 10_000)

REQUESTS: Final = histogram(
    "http_server_request_duration_seconds",
    "time from a request's head to the reply's; without the probes and /metrics",
    "http_request_method", "http_route", "http_response_status_code",
    bounds=_REQUEST_BOUNDS_S, functions=ALL,
)  # fmt: skip
ACTIVE: Final = gauge("http_server_active_requests", "requests under way", functions=ALL)
BODIES: Final = histogram(
    "http_server_request_body_size_bytes",
    "size of request bodies, as they are read; without replies that read none",
    bounds=_BODY_BOUNDS_BYTES, functions=("ingest", "trigger"),
)  # fmt: skip
STORE_TRIPS: Final = histogram(
    "db_client_operation_duration_seconds",
    "time of a trip to the store, the wait for a connection included",
    "db_system_name", "db_operation_name",
    bounds=_STORE_BOUNDS_S, functions=ALL,
)  # fmt: skip
STORE_ERRORS: Final = counter(
    "flyertime_store_errors_total", "errors of the store, by what they mean to a caller", "code", functions=ALL
)
ERRORS: Final = counter(
    "flyertime_errors_total", "requests answered with a problem instead, by its code", "code", functions=ALL
)

EVENTS: Final = counter("flyertime_events_total", "events answered for, by verdict", "verdict", functions=_INGEST)
FAULTS: Final = counter(
    "flyertime_event_faults_total", "faults of rejected events, by code; an event may have several", "code",
    functions=_INGEST,
)  # fmt: skip
QUARANTINE: Final = counter(
    "flyertime_quarantine_events_total",
    "rejected events, by what became of them: kept (also where it was there before), or why not", "result",
    functions=_INGEST,
)  # fmt: skip
REQUEST_EVENTS: Final = histogram(
    "flyertime_request_events", "events in a request", bounds=_EVENTS_BOUNDS, functions=_INGEST
)
SIGNALS: Final = counter(
    "flyertime_signals_total", "signals from ingest to trigger, by what became of them", "result", functions=_INGEST
)
DECISIONS: Final = counter(
    "flyertime_trigger_decisions_total",
    "looks of trigger at backlog and runs, by what it decided and why; without those that only explain",
    "decision", "cause",
    functions=_TRIGGER,
)  # fmt: skip
LAUNCHES: Final = counter(
    "flyertime_trigger_launches_total", "runs that were due: started by this trigger, or there already", "result",
    functions=_TRIGGER,
)  # fmt: skip
REPORT_ROWS: Final = counter("flyertime_report_rows_total", "rows sent to readers of the report", functions=_REPORT)

COUNTED: Final[tuple[Instrument[Any], ...]] = (
    REQUESTS, ACTIVE, BODIES, STORE_TRIPS, STORE_ERRORS, ERRORS,
    EVENTS, FAULTS, QUARANTINE, REQUEST_EVENTS, SIGNALS, DECISIONS, LAUNCHES, REPORT_ROWS,
)  # fmt: skip
"""What a process counts itself, since it started."""

for _verdict in ("accepted", "duplicate", "rejected", "retry"):
    EVENTS.of(_verdict)  # there from the start, so that the first one is an increase
for _result in ("kept", "no_room", "too_large", "too_many", "unavailable"):
    QUARANTINE.of(_result)

active_requests: Final[Count] = ACTIVE.of()
body_sizes: Final[Distribution] = BODIES.of()
request_events: Final[Distribution] = REQUEST_EVENTS.of()
report_rows: Final[Count] = REPORT_ROWS.of()


_Method = TypeVar("_Method", bound="Callable[..., Awaitable[Any]]")


def timed_trip(operation: str) -> Callable[[_Method], _Method]:
    """Return a decorator that measures a method of the store under this name, and makes it a span where those are."""
    child = STORE_TRIPS.of("redis", operation)

    def decorate(method: _Method) -> _Method:
        @functools.wraps(method)
        async def timed(*args: Any, **kwargs: Any) -> Any:
            spans = tracing.current()
            started_s = time.perf_counter()
            try:
                if spans is None:
                    return await method(*args, **kwargs)
                with spans.child(operation, "CLIENT", {"db.system.name": "redis", "db.operation.name": operation}):
                    return await method(*args, **kwargs)
            finally:
                child.observe(time.perf_counter() - started_s)

        return timed  # type: ignore[return-value]  # of the same type

    return decorate
