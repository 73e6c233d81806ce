"""Counters and histograms that cost a tenth of a microsecond: plain numbers, read when somebody asks for them.

One thread counts, so nothing locks; a reader in another thread sees numbers that are each right and together as good as
of one moment. What they are called is in functions/adapters/metrics.py, how they are written in
functions/adapters/prometheus.py.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_CHILDREN: Final = 200
"""Combinations of labels of one instrument. Label values come from our code, not from senders; where that is ever
forgotten, the rest counts under `OTHER` and the memory of everybody who keeps the series is safe."""
OTHER: Final = "other"


class Count:
    """A number: of what happened, or of what is there now."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        """Add to the number."""
        self.value += amount


class Distribution:
    """How often values were of which size."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Prepare; ``bounds`` are the upper ends of the buckets, ascending, without the infinite one."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum: float = 0

    def observe(self, value: float) -> None:
        """Add a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


Child = TypeVar("Child", Count, Distribution)


class Instrument(Generic[Child]):
    """One metric: its name, what it means, and its numbers by the values of its labels."""

    def __init__(
        self,
        name: str,
        doc: str,
        kind: str,
        labels: tuple[str, ...],
        functions: tuple[str, ...],
        new: Callable[[], Child],
    ) -> None:
        """Describe a metric.

        Args:
            name: As Prometheus has it, with its unit and, of a counter, ``_total``.
            doc: What it means, for the scrape and for the table in the documentation.
            kind: counter, gauge or histogram.
            labels: Names of its labels.
            functions: Which of the functions count it.
            new: Makes a child.
        """
        self.name = name
        self.doc = doc
        self.kind = kind
        self.labels = labels
        self.functions = functions
        self._new: Callable[[], Child] = new
        self._children: dict[tuple[str, ...], Child] = {}

    def of(self, *values: str) -> Child:
        """Return the child with these label values, in the order of the labels; keep it where it is used often."""
        child = self._children.get(values)
        if child is None:
            if len(self._children) >= MAX_CHILDREN:
                values = (OTHER,) * len(self.labels)
            child = self._children.setdefault(values, self._new())
        return child

    def children(self) -> Mapping[tuple[str, ...], Child]:
        """Return the children by label values, as they are now."""
        return dict(self._children)


def counter(name: str, doc: str, *labels: str, functions: tuple[str, ...]) -> Instrument[Count]:
    """Return a metric that only grows."""
    return Instrument(name, doc, "counter", labels, functions, Count)


def gauge(name: str, doc: str, *labels: str, functions: tuple[str, ...]) -> Instrument[Count]:
    """Return a metric that is set."""
    return Instrument(name, doc, "gauge", labels, functions, Count)


def histogram(
    name: str, doc: str, *labels: str, bounds: Sequence[float], functions: tuple[str, ...]
) -> Instrument[Distribution]:
    """Return a metric of sizes or durations."""
    return Instrument(name, doc, "histogram", labels, functions, lambda: Distribution(bounds))
