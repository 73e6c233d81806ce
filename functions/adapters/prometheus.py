"""The scrape: what the process has counted and what the store says, as Prometheus or OpenMetrics reads it.

prometheus_client is imported at the first scrape and not at the start: it brings an HTTP server and takes 10 to 15 ms.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functions.adapters import build, metrics
from functions.core.instruments import Distribution

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.adapters.store_figures import Figures
    from functions.core.instruments import Instrument
    from functions.core.policy import Policy

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class Gauge(NamedTuple):
    """A figure that is read when somebody scrapes, and what it means."""

    name: str
    doc: str
    kind: str = "gauge"
    labels: tuple[str, ...] = ()


STORE_UP: Final = Gauge(
    "flyertime_store_up", "1 where the store answered this scrape, else 0; then the rest is left out"
)
PENDING: Final = Gauge("flyertime_pending_events", "events accepted and not yet folded")
OLDEST: Final = Gauge(
    "flyertime_oldest_pending_event_age_seconds", "age of the oldest of them; 0 where none is pending"
)
BOOKED: Final = Gauge(
    "flyertime_booked_events_total",
    "events by the store's books, which outlive all processes; accepted = folded + pending + erased",
    "counter",
    ("state",),
)
QUARANTINED: Final = Gauge("flyertime_quarantined_events", "rejected events kept for a fix")
QUARANTINED_BYTES: Final = Gauge("flyertime_quarantine_bytes", "bytes that they take in the store")
QUARANTINE_BOOKED: Final = Gauge(
    "flyertime_quarantine_booked_events_total",
    "rejected events by the store's books: kept, pushed out by newer ones of anybody or, over their share, of the same "
    "sender, expired by age, redriven, discarded, erased with their user",
    "counter",
    ("state",),
)
RUN_OK: Final = Gauge("flyertime_last_run_succeeded", "1 where the last run on record succeeded, else 0")
RUN_ENDED: Final = Gauge("flyertime_last_run_end_timestamp_seconds", "when it ended, seconds since 1970")
RUN_TIME: Final = Gauge("flyertime_last_run_duration_seconds", "how long it took, Spark's start included")
RUN_EVENTS: Final = Gauge("flyertime_last_run_events", "events that it folded")
THRESHOLD: Final = Gauge("flyertime_policy_threshold_events", "the setting FLYERTIME_THRESHOLD_EVENTS, for alerts")
MAX_AGE: Final = Gauge("flyertime_policy_max_age_seconds", "the setting FLYERTIME_MAX_AGE_S, for alerts")
BUILD: Final = Gauge(
    "flyertime_build_info", "always 1; what runs here", "gauge", ("function", "version", "python_version")
)
READ: Final = (
    STORE_UP, PENDING, OLDEST, BOOKED, QUARANTINED, QUARANTINED_BYTES, QUARANTINE_BOOKED,
    RUN_OK, RUN_ENDED, RUN_TIME, RUN_EVENTS, THRESHOLD, MAX_AGE, BUILD,
)  # fmt: skip
"""What is read at a scrape, of every function; flyertime's version and the settings come from the process itself."""

_importing: Final = threading.Lock()


def scrape(function: str, policy: Policy, figures: Figures | None, accept: str) -> tuple[bytes, str]:
    """Return the text and its media type. May be called in another thread than the one that counts.

    Args:
        function: Which of the functions this is.
        policy: Its settings for alerts.
        figures: What the store says; None where it does not answer.
        accept: The request's ``Accept`` header.
    """
    with _importing:
        from prometheus_client import exposition  # noqa: PLC0415  # see above
    try:
        encode, media_type = exposition.choose_encoder(accept)
    except (ValueError, TypeError):  # a version that is no number
        encode, media_type = exposition.generate_latest, TEXT
    return encode(_registry(function, policy, figures)), media_type


def _registry(function: str, policy: Policy, figures: Figures | None) -> Any:
    from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector  # noqa: PLC0415

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(function, policy, figures))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class _Collected:
    """Everything of ours, in the form that the library writes."""

    def __init__(self, function: str, policy: Policy, figures: Figures | None) -> None:
        self._function = function
        self._policy = policy
        self._figures = figures

    def describe(self) -> list[Any]:
        """Name nothing in advance."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield the metrics."""
        for instrument in metrics.COUNTED:
            if self._function in instrument.functions:
                yield _family_of(instrument)
        for gauge, samples in self._read().items():
            family = _new_family(gauge.kind, gauge.name, gauge.doc, gauge.labels)
            for labels, value in samples.items():
                family.add_metric(labels, value)
            yield family

    def _read(self) -> dict[Gauge, dict[tuple[str, ...], float]]:
        read: dict[Gauge, dict[tuple[str, ...], float]] = {
            BUILD: {(self._function, build.version(), ".".join(map(str, sys.version_info[:3]))): 1},
            THRESHOLD: {(): self._policy.threshold_events},
            MAX_AGE: {(): self._policy.max_age_s},
            STORE_UP: {(): self._figures is not None},
        }
        if (figures := self._figures) is not None:
            read |= {
                PENDING: {(): figures.pending_events},
                OLDEST: {(): figures.oldest_age_s},
                BOOKED: {
                    ("accepted",): figures.accepted,
                    ("duplicate",): figures.duplicate,
                    ("folded",): figures.folded,
                    ("erased",): figures.erased,
                },
                QUARANTINED: {(): figures.quarantine.events},
                QUARANTINED_BYTES: {(): figures.quarantine.bytes},
                QUARANTINE_BOOKED: {
                    (state,): getattr(figures.quarantine, state)
                    for state in ("kept", "pushed_out", "over_share", "expired", "redriven", "discarded", "erased")
                },
            }
            if (run := figures.last_run) is not None:
                read |= {
                    RUN_OK: {(): run.succeeded},
                    RUN_ENDED: {(): run.ended_s},
                    RUN_TIME: {(): run.duration_s},
                    RUN_EVENTS: {(): run.events},
                }
        return read


def _family_of(instrument: Instrument[Any]) -> Any:
    family = _new_family(instrument.kind, instrument.name, instrument.doc, instrument.labels)
    for labels, child in instrument.children().items():
        if isinstance(child, Distribution):
            family.add_metric(labels, _buckets(child), child.sum)
        else:
            family.add_metric(labels, child.value)
    return family


def _new_family(kind: str, name: str, doc: str, labels: tuple[str, ...]) -> Any:
    from prometheus_client import metrics_core  # noqa: PLC0415

    kinds: dict[str, Any] = {
        "counter": metrics_core.CounterMetricFamily,
        "gauge": metrics_core.GaugeMetricFamily,
        "histogram": metrics_core.HistogramMetricFamily,
    }
    return kinds[kind](name, f"{doc[0].upper()}{doc[1:]}.", labels=labels)


def _buckets(distribution: Distribution) -> list[tuple[str, float]]:
    """Return the buckets as Prometheus counts them: each with all below it."""
    buckets, total = [], 0
    for bound, count in zip([*map(float, distribution.bounds), float("inf")], distribution.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else repr(bound), float(total)))
    return buckets
