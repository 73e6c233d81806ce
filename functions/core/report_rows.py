"""Users' packed totals as columns: many at once, by loops that run in C, since a report may hold a million of them."""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import chain, compress
from typing import TYPE_CHECKING, Any, Final, cast

from functions.core.spans import (
    COMPUTED,
    NO_SESSION,
    NOT_KEPT,
    TOTALS,
    TOTALS_FORMAT,
    average_hours,
    unpack_totals,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class UserRows:
    """Some users' rows, column by column; users without a session are not among them.

    What is not asked for is not unpacked: the average stands ready, most ask for nothing else.
    """

    __slots__ = ("_further", "_hundredths", "_reference", "_values", "ids")

    def __init__(
        self,
        ids: Sequence[bytes],
        *columns: Sequence[int | None],
        values: Sequence[bytes] = (),
        hundredths: Sequence[int] | None = None,
    ) -> None:
        """Take columns: all of them, or seconds and sessions, or none, and the values that they are from."""
        self.ids = ids
        self._reference = cast("tuple[Sequence[int], ...]", columns[:2])
        self._further = columns[2:]
        self._values = values
        self._hundredths = hundredths

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def seconds(self) -> Sequence[int]:
        """Of the reference number."""
        return self._two()[0]

    @property
    def sessions(self) -> Sequence[int]:
        """Of the reference number."""
        return self._two()[1]

    def _two(self) -> tuple[Sequence[int], ...]:
        if not self._reference:
            self._reference = _reference_of(b"".join(self._values), len(self._values))
        return self._reference

    @property
    def further(self) -> tuple[Sequence[int | None], ...]:
        """first_us, last_us, closed_seconds, closed_sessions and unclosed; None: not known."""
        if not self._further:
            self._further = _further_of(self._values) if self._values else ((),) * 5
        return self._further

    @property
    def first_us(self) -> Sequence[int | None]:
        """First flyer event, microseconds since 1970."""
        return self.further[0]

    @property
    def last_us(self) -> Sequence[int | None]:
        """Last flyer event, microseconds since 1970."""
        return self.further[1]

    @property
    def closed_seconds(self) -> Sequence[int | None]:
        """Seconds from opens to the closes that follow them."""
        return self.further[2]

    @property
    def closed_sessions(self) -> Sequence[int | None]:
        """Opens that a close follows."""
        return self.further[3]

    @property
    def unclosed(self) -> Sequence[int | None]:
        """Opens that no close follows."""
        return self.further[4]

    def hundredths(self) -> Sequence[int]:
        """Return the averages in hundredths of an hour."""
        if self._hundredths is None:
            self._hundredths = hundredths_of(self.seconds, self.sessions)
        return self._hundredths

    def column(self, name: str) -> Sequence[Any]:
        """Return a column by its name in the report."""
        return _COLUMNS[name](self)

    def where(self, selected: Sequence[bool]) -> UserRows:
        """Return the rows that are selected."""
        return self if all(selected) else self._each(lambda column: list(compress(column, selected)))

    def part(self, start: int, end: int) -> UserRows:
        """Return the rows from one place up to another."""
        return self._each(lambda column: column[start:end])

    def _each(self, change: Callable[[Sequence[Any]], Sequence[Any]]) -> UserRows:
        return UserRows(
            *map(change, (self.ids, *self._reference, *self._further)),
            values=change(self._values),
            hundredths=None if self._hundredths is None else change(self._hundredths),
        )

    def all_columns(self) -> tuple[Sequence[Any], ...]:
        """Return all that is held: ids, seconds, sessions, and the further ones."""
        return (self.ids, self.seconds, self.sessions, *self.further)


def rows_of_users(ids: Sequence[bytes], values: Sequence[bytes]) -> UserRows:
    """Return the rows of users from their values in an averages hash, in the order given.

    Raises:
        ValueError: A value is of a format that this version does not read.
    """
    if not ids:
        return UserRows((), (), ())
    packed = b"".join(values)
    if not is_current(packed, values):  # some are of an older format
        rows = UserRows(ids, *zip(*map(unpack_totals, values), strict=True))
        return rows if all(rows.sessions) else rows.where([count > 0 for count in rows.sessions])
    return rows_of_averages(ids, _unpacked(f"x{HUNDREDTHS_ALONE}", packed, len(values)), values)


def rows_of_averages(ids: Sequence[bytes], hundredths: Sequence[int], values: Sequence[bytes]) -> UserRows:
    """Return the rows of users from the averages in their values, NO_SESSION and COMPUTED among them.

    Without values they know their averages only, and none may be COMPUTED.
    """
    highest = max(hundredths, default=0)
    if highest < COMPUTED:
        return UserRows(ids, values=values, hundredths=hundredths)
    rows = UserRows(ids, values=values, hundredths=None if COMPUTED in hundredths else hundredths)
    return rows if highest == COMPUTED else rows.where([value != NO_SESSION for value in hundredths])


def is_current(packed: bytes, values: Sequence[bytes]) -> bool:
    """Tell whether all values, which joined are the first argument, are of today's format."""
    return len(packed) == TOTALS.size * len(values) and set(packed[:: TOTALS.size]) == {TOTALS_FORMAT}


UNPACKED_BY: Final = 128
"""Values are unpacked by multiples of this, so that parts of shards of about the same size need one `struct.Struct`:
making it takes as long as using it."""
HUNDREDTHS_ALONE: Final = f"I{TOTALS.size - 5}x"
"""What `struct` unpacks the average of a value by, behind its first byte."""
HIGHEST_BYTE: Final = 4
"""Where the highest byte of that stands in a value."""
_REFERENCE: Final = f"5xqI{TOTALS.size - 17}x"


@lru_cache(12)
def unpacker(fields: str, records: int) -> struct.Struct:
    """Return what unpacks some fields of so many records at once, for a tenth of the price."""
    return struct.Struct("<" + fields * records)


def _unpacked(fields: str, packed: bytes, count: int) -> tuple[int, ...]:
    """Return some fields of so many values, which joined are the second argument, one value after the other."""
    more = -count % UNPACKED_BY
    numbers = unpacker(fields, count + more).unpack(packed + bytes(TOTALS.size * more))
    return numbers[: len(numbers) // (count + more) * count]


def _reference_of(packed: bytes, count: int) -> tuple[Sequence[int], Sequence[int]]:
    """Return seconds and sessions."""
    numbers = _unpacked(_REFERENCE, packed, count) if count else ()
    return numbers[0::2], numbers[1::2]


def _further_of(values: Sequence[bytes]) -> tuple[Sequence[int | None], ...]:
    columns: list[Any] = list(zip(*TOTALS.iter_unpack(b"".join(values)), strict=True))[4:]
    if NOT_KEPT in columns[4]:
        kept = [unclosed != NOT_KEPT for unclosed in columns[4]]
        columns[2:] = [tuple(v if known else None for v, known in zip(c, kept, strict=True)) for c in columns[2:]]
    return tuple(columns)


def joined(parts: Sequence[UserRows]) -> UserRows:
    """Return the rows of all parts, in their order."""
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(part.all_columns() for part in parts), strict=True) if parts else ((),) * 8
    return UserRows(*(tuple(chain.from_iterable(column)) for column in columns))


def hundredths_of(seconds: Sequence[int], sessions: Sequence[int]) -> list[int]:
    """Return averages in whole hundredths of an hour, rounded as `average_hours` does.

    In whole numbers, which are exact: only where a half is met does Spark's way of rounding doubles decide. Only whole
    multiples of 18 seconds may meet one.
    """
    return [
        (total + 18 * count) // (36 * count)
        if total % 18 or (total + 18 * count) % (36 * count)
        else round(average_hours(total, count) * 100)
        for total, count in zip(seconds, sessions, strict=True)
    ]


def _closed_hundredths(rows: UserRows) -> list[int | None]:
    known = [
        total is not None and bool(count)
        for total, count in zip(rows.closed_seconds, rows.closed_sessions, strict=True)
    ]
    hundredths = iter(
        hundredths_of(
            cast("Sequence[int]", [*compress(rows.closed_seconds, known)]),
            cast("Sequence[int]", [*compress(rows.closed_sessions, known)]),
        )
    )
    return [next(hundredths) if there else None for there in known]


_COLUMNS: Final[dict[str, Callable[[UserRows], Sequence[Any]]]] = {
    "user_id": lambda rows: rows.ids,
    "avg_time_on_flyer_per_user_hours": UserRows.hundredths,
    "sessions": lambda rows: rows.sessions,
    "total_seconds": lambda rows: rows.seconds,
    "first_seen": lambda rows: rows.first_us,
    "last_seen": lambda rows: rows.last_us,
    "avg_open_to_close_hours": _closed_hundredths,
    "closed_sessions": lambda rows: rows.closed_sessions,
    "unclosed_opens": lambda rows: rows.unclosed,
}


def sum_of(numbers: Iterable[int | None]) -> int | None:
    """Return the sum; None where one is not known."""
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total
