"""Many users' rows in a few numbers: how many, the mean, percentiles, a histogram. Pure.

Averages are counted by hundredths of an hour, as they are shown, so percentiles are exact and a million users take no
more memory than there are different averages. Parts of shards add up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate, compress
from typing import TYPE_CHECKING, Any, Final, cast

from functions.core.report_rows import hundredths_of
from functions.core.spans import COMPUTED, NO_SESSION, NOT_KEPT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from functions.core.report_rows import UserRows

PERCENTILES: Final = (50, 75, 90, 95, 99)
BOUNDS_HOURS: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 24.0)
"""Where the histogram's buckets begin; the last one has no end."""

SUMMARY_FIELDS: Final = "xIqI24xII"
"""What `struct` unpacks by what is summed up of a packed total: hundredths, seconds, sessions, closed and unclosed."""
_COARSE_FROM: Final = 100_000
_COARSE: Final = 1000


@dataclass(slots=True)
class Summary:
    """Of some users."""

    users: int = 0
    sessions: int = 0
    seconds: int = 0
    closed_sessions: int = 0
    unclosed: int = 0
    """This and the one above of those users of whom opens are kept."""
    hundredths: Counter[int] = field(default_factory=Counter)
    """Users by their average; above 1,000 hours in steps of 10."""
    not_kept_users: int = 0
    """Users of whom opens are not kept; where there is one, neither of those sums is shown."""

    @property
    def opens(self) -> tuple[int | None, int | None]:
        """Opens that a close follows and opens that none does; None for both where some user's are not kept."""
        return (None, None) if self.not_kept_users else (self.closed_sessions, self.unclosed)

    def add(self, rows: UserRows) -> None:
        """Add users."""
        self._add(rows.hundredths(), rows.seconds, rows.sessions, rows.closed_sessions, rows.unclosed)

    def add_current(self, columns: Sequence[Sequence[int]]) -> bool:
        """Add users, given what `SUMMARY_FIELDS` makes of their values; tell whether these are good for that."""
        hundredths, *_, unclosed = columns
        if COMPUTED in hundredths or NOT_KEPT in unclosed:
            return False
        if NO_SESSION in hundredths:
            kept = [value != NO_SESSION for value in hundredths]
            columns = [[*compress(column, kept)] for column in columns]
        self._add(*columns)
        return True

    def _add(
        self,
        hundredths: Sequence[int],
        seconds: Sequence[int],
        sessions: Sequence[int],
        closed_sessions: Sequence[int | None],
        unclosed: Sequence[int | None],
    ) -> None:
        self.users += len(hundredths)
        self.sessions += sum(sessions)
        self.seconds += sum(seconds)
        if None in unclosed:
            kept = [opens is not None for opens in unclosed]
            self.not_kept_users += len(kept) - sum(kept)
            closed_sessions, unclosed = [*compress(closed_sessions, kept)], [*compress(unclosed, kept)]
        self.closed_sessions += sum(cast("Sequence[int]", closed_sessions))
        self.unclosed += sum(cast("Sequence[int]", unclosed))
        if max(hundredths, default=0) >= _COARSE_FROM:
            hundredths = [value if value < _COARSE_FROM else value // _COARSE * _COARSE for value in hundredths]
        self.hundredths.update(hundredths)

    def count(self, averages: Iterable[tuple[int, int]]) -> None:
        """Take averages, in hundredths of an hour, and how many of the users have each."""
        for value, users in averages:
            self.hundredths[value if value < _COARSE_FROM else value // _COARSE * _COARSE] += users

    def merge(self, other: Summary) -> None:
        """Add the users of another one; nobody may be in both."""
        self.users += other.users
        self.sessions += other.sessions
        self.seconds += other.seconds
        self.closed_sessions += other.closed_sessions
        self.unclosed += other.unclosed
        self.not_kept_users += other.not_kept_users
        self.hundredths.update(other.hundredths)

    def without(self, other: Summary) -> Summary | None:
        """Return the summary of the users who are not in another one; None where that one cannot be a part of this."""
        counts = {
            name: getattr(self, name) - getattr(other, name)
            for name in ("users", "sessions", "seconds", "closed_sessions", "unclosed", "not_kept_users")
        }
        hundredths = self.hundredths.copy()
        for value, users in other.hundredths.items():
            hundredths[value] -= users
            if not hundredths[value]:
                del hundredths[value]
            elif hundredths[value] < 0:
                return None
        if min(counts.values()) < 0:
            return None
        return Summary(**counts, hundredths=hundredths)

    def hours_per_session(self) -> int | None:
        """Return the average of all sessions in hundredths of an hour."""
        return hundredths_of((self.seconds,), (self.sessions,))[0] if self.sessions else None

    def has_fewer_than(self, least_users: int) -> bool:
        """Tell whether these are too few users to be shown as a group."""
        return 0 < self.users < least_users

    def shown(self, least_users: int = 1) -> dict[str, Any]:
        """Return it for a JSON body, with no group of fewer users than this in it."""
        if self.users < least_users or not self.users:
            hidden = self.has_fewer_than(least_users)
            return {
                "users": None if hidden else 0,
                "sessions": None if hidden else 0,
                "mean_hours": None,
                "avg_time_on_flyer_hours": None,
                "percentiles": {f"p{percent}": None for percent in PERCENTILES},
                "histogram": [],
                "unclosed_opens": None if hidden else 0,
            }
        values = sorted(self.hundredths.items())
        per_session = self.hours_per_session()
        return {
            "users": self.users,
            "sessions": self.sessions,
            "mean_hours": round(sum(value * users for value, users in values) / self.users / 100, 4),
            "avg_time_on_flyer_hours": None if per_session is None else per_session / 100,
            "percentiles": _percentiles(values, self.users, least_users),
            "histogram": _histogram(values, least_users),
            "unclosed_opens": self.opens[1],
        }


def _percentiles(values: Sequence[tuple[int, int]], users: int, least_users: int) -> dict[str, float | None]:
    """Return nearest-rank percentiles; None for one on whose far side too few users would stand."""
    ranks = list(accumulate(count for _, count in values))
    shown: dict[str, float | None] = {}
    for percent in PERCENTILES:
        rank = max(1, -(-percent * users // 100))
        beyond = min(rank, users - rank + 1)
        place = next(place for place, reached in enumerate(ranks) if reached >= rank)
        shown[f"p{percent}"] = values[place][0] / 100 if least_users <= 1 or beyond >= least_users else None
    return shown


def _histogram(values: Iterable[tuple[int, int]], least_users: int) -> list[dict[str, Any]]:
    """Return the buckets that have users; neighbours are put together until each has enough."""
    starts = [round(bound * 100) for bound in BOUNDS_HOURS]
    counts = [0] * len(starts)
    for value, users in values:
        counts[bisect_right(starts, value) - 1] += users
    last = max(place for place, count in enumerate(counts) if count)
    buckets: list[list[Any]] = []  # from, to, users
    for place in range(last + 1):
        end = starts[place + 1] / 100 if place + 1 < len(starts) else None
        if buckets and least_users > 1 and buckets[-1][2] < least_users:
            buckets[-1][1:] = [end, buckets[-1][2] + counts[place]]
        else:
            buckets.append([starts[place] / 100, end, counts[place]])
    if least_users > 1 and len(buckets) > 1 and buckets[-1][2] < least_users:
        _, end, users = buckets.pop()
        buckets[-1][1:] = [end, buckets[-1][2] + users]
    return [{"from_hours": start, "to_hours": end, "users": users} for start, end, users in buckets]
