"""Counters and histograms: what they count, and that their number stays bounded."""

from __future__ import annotations

from functions.core.instruments import MAX_CHILDREN, counter, histogram


def test_a_value_at_a_bound_counts_below_it() -> None:
    """As in Prometheus, a bucket includes its upper end; what is above all bounds is in the last one."""
    sizes = histogram("sizes", "sizes", bounds=(1.0, 5.0), functions=("ingest",)).of()

    for value in (0.5, 1.0, 1.1, 5.0, 9.0):
        sizes.observe(value)

    assert [2, 2, 1] == sizes.counts
    assert sum((0.5, 1.0, 1.1, 5.0, 9.0)) == sizes.sum


def test_a_child_is_the_same_for_the_same_labels() -> None:
    """Whoever keeps it counts in the same place as whoever looks it up."""
    events = counter("events_total", "events", "verdict", functions=("ingest",))

    events.of("accepted").add(3)
    events.of("accepted").add()
    events.of("rejected").add()

    assert {("accepted",): 4, ("rejected",): 1} == {labels: c.value for labels, c in events.children().items()}


def test_labels_that_never_end_count_together() -> None:
    """Beyond the limit everything new counts under one name, and nothing is lost."""
    requests = counter("requests_total", "requests", "path", "status", functions=("ingest",))

    for number in range(MAX_CHILDREN + 50):
        requests.of(f"/{number}", "404").add()

    children = requests.children()
    assert MAX_CHILDREN + 1 == len(children)
    assert 50 == children["other", "other"].value
