"""The report's tables: which columns there are, of which kind, in which order. The same ones in every format."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Values: TypeAlias = "Sequence[Any]"


class Kind(Enum):
    """What the values of a column are, while they are on their way to a format."""

    TEXT = "text"
    """UTF-8 as bytes."""
    HOURS = "hours"
    """Whole hundredths of an hour; None: there is none."""
    COUNT = "count"
    """A whole number; None: not known."""
    MOMENT = "moment"
    """Microseconds since 1970; None: not known."""


class Column(NamedTuple):
    """One column of a table."""

    name: str
    kind: Kind
    doc: str


USER_COLUMNS: Final = (
    Column("user_id", Kind.TEXT, "the user"),
    Column(
        "avg_time_on_flyer_per_user_hours",
        Kind.HOURS,
        "total_seconds / sessions in hours, two digits, rounded half up",
    ),
    Column("sessions", Kind.COUNT, "pairs of consecutive events of the user on one flyer"),
    Column("total_seconds", Kind.COUNT, "seconds between these events, all together"),
    Column("first_seen", Kind.MOMENT, "the user's first event on a flyer"),
    Column("last_seen", Kind.MOMENT, "the user's last event on a flyer"),
    Column(
        "avg_open_to_close_hours",
        Kind.HOURS,
        "average time from an open to the close that follows it, in hours; null where no open was closed",
    ),
    Column("closed_sessions", Kind.COUNT, "opens that a close follows"),
    Column("unclosed_opens", Kind.COUNT, "opens that no close follows"),
)
"""Of the tables of users, in the order in which they are shown."""

USER_COLUMN: Final = {column.name: column for column in USER_COLUMNS}
DEFAULT_FIELDS: Final = ("user_id", "avg_time_on_flyer_per_user_hours")

MERCHANT_COLUMNS: Final = (
    Column("merchant_id", Kind.TEXT, "the merchant"),
    Column("users", Kind.COUNT, "users with a session on a flyer of this merchant"),
    Column("sessions", Kind.COUNT, "their sessions"),
    Column("total_seconds", Kind.COUNT, "the seconds of these sessions, all together"),
    Column("avg_time_on_flyer_hours", Kind.HOURS, "total_seconds / sessions in hours, two digits, rounded half up"),
    Column("closed_sessions", Kind.COUNT, "opens that a close follows"),
    Column("unclosed_opens", Kind.COUNT, "opens that no close follows"),
)
"""Of the table of merchants."""
