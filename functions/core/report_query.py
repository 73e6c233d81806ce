"""What is asked of a table: its fields, filters, order and page, read strictly from the query of a URL. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Final

from functions.core.errors import RequestRefusedError
from functions.core.report_columns import DEFAULT_FIELDS, USER_COLUMN, USER_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from functions.core.report_rows import UserRows

MAX_LIMIT: Final = 50_000
"""Rows of one page."""
FORMATS: Final = ("json", "ndjson", "csv", "arrow", "parquet")
KEY_PARAMETERS: Final = ("key",)
FORMAT_PARAMETERS: Final = ("format", *KEY_PARAMETERS)
TABLE_PARAMETERS: Final = (
    "fields", "min_sessions", "min_hours", "max_hours", "prefix", "sort", "limit", "after", *FORMAT_PARAMETERS,
)  # fmt: skip
EVENT_PARAMETERS: Final = tuple(name for name in TABLE_PARAMETERS if name not in FORMAT_PARAMETERS)
"""Those that an event may ask with, whose answer is always JSON."""
ROW_PARAMETERS: Final = ("fields", *FORMAT_PARAMETERS)

ORDERS: Final = {
    "user_id": "user_id",
    "hours": "avg_time_on_flyer_per_user_hours",
    **{column.name: column.name for column in USER_COLUMNS if column.name != "user_id"},
}
"""What may be sorted by, and the column that this is."""

_WHOLE: Final = re.compile(r"\d{1,18}", re.ASCII)
_DECIMAL: Final = re.compile(r"\d{1,12}(?:\.\d{1,12})?", re.ASCII)
_MAX_TEXT: Final = 65_536


@dataclass(frozen=True, slots=True)
class Order:
    """By which column, and whether the greatest comes first."""

    column: str
    descending: bool = False

    @property
    def by_id(self) -> bool:
        """Whether users come by their ids, of which no commit changes anything."""
        return self.column == "user_id"


@dataclass(frozen=True, slots=True)
class Filters:
    """Which users are shown; bounds are inclusive and hold for the numbers as they are shown."""

    min_sessions: int | None = None
    min_hours: Decimal | None = None
    max_hours: Decimal | None = None
    prefix: str = ""

    def of(self, rows: UserRows) -> UserRows:
        """Return the rows that pass."""
        if self.prefix:
            prefix = self.prefix.encode()
            rows = rows.where([user_id.startswith(prefix) for user_id in rows.ids])
        if (least := self.min_sessions) is not None:
            rows = rows.where([count >= least for count in rows.sessions])
        if self.min_hours is not None or self.max_hours is not None:
            low = 0 if self.min_hours is None else int((self.min_hours * 100).to_integral_value(ROUND_CEILING))
            high = None if self.max_hours is None else int(self.max_hours * 100)
            hundredths = rows.hundredths()
            rows = rows.where([low <= value and (high is None or value <= high) for value in hundredths])
        return rows

    def key(self) -> str:
        """Return a text that is the same exactly for the same filters."""
        return f"{self.min_sessions}|{self.min_hours}|{self.max_hours}|{self.prefix!r}"


@dataclass(frozen=True, slots=True)
class TableQuery:
    """One question about users."""

    fields: tuple[str, ...] = DEFAULT_FIELDS
    filters: Filters = Filters()
    order: Order | None = None
    """None: shard by shard and by id within, which needs the least memory and time."""
    limit: int | None = None
    """Rows of a page; None: no pages."""
    after: str | None = None
    """The cursor of the page before, as it was sent."""
    format: str | None = None

    def key(self) -> str:
        """Return a text that is the same exactly for the same question, whatever the format."""
        return f"{','.join(self.fields)}|{self.filters.key()}|{self.order}|{self.limit}|{self.after}"

    def cursor_key(self) -> str:
        """Return a text that is the same for all pages of one question; a cursor belongs to it."""
        return f"{self.filters.key()}|{self.order}"


def parameters_of(pairs: Iterable[tuple[str, str]], known: Iterable[str]) -> dict[str, str]:
    """Return the query's parameters by name.

    Raises:
        RequestRefusedError: One is not known here, or is there twice.
    """
    found: dict[str, str] = {}
    names = tuple(known)
    for name, value in pairs:
        if name not in names:
            raise RequestRefusedError(
                "unknown_parameter", f"the query has a parameter that is none of: {', '.join(names)}"
            )
        if name in found:
            raise RequestRefusedError("repeated_parameter", f"{name} may stand in the query once")
        if len(value) > _MAX_TEXT:
            raise RequestRefusedError("bad_parameter", f"{name} is too long")
        found[name] = value
    return found


def table_query(parameters: Mapping[str, str]) -> TableQuery:
    """Return the question that parameters ask.

    Raises:
        RequestRefusedError: One of them has no such meaning; the message says what would be right.
    """
    if not parameters:
        return _EVERYBODY
    limit = _whole(parameters, "limit")
    if limit is not None and not 1 <= limit <= MAX_LIMIT:
        raise _bad(f"limit must be 1 to {MAX_LIMIT}")
    if "after" in parameters and limit is None:
        raise _bad("after goes with limit: follow the next link of a page")
    return TableQuery(
        fields=_fields(parameters.get("fields")),
        filters=Filters(
            min_sessions=_whole(parameters, "min_sessions"),
            min_hours=_hours(parameters, "min_hours"),
            max_hours=_hours(parameters, "max_hours"),
            prefix=_text(parameters, "prefix"),
        ),
        order=_order(parameters.get("sort")),
        limit=limit,
        after=parameters.get("after"),
        format=format_of(parameters),
    )


_EVERYBODY: Final = TableQuery()


def format_of(parameters: Mapping[str, str]) -> str | None:
    """Return the format that is asked for by name; None where by ``Accept``, or not at all.

    Raises:
        RequestRefusedError: There is no such format.
    """
    name = parameters.get("format")
    if name is not None and name not in FORMATS:
        raise _bad(f"format must be one of {', '.join(FORMATS)}")
    return name


def _fields(text: str | None) -> tuple[str, ...]:
    if text is None:
        return DEFAULT_FIELDS
    names = tuple(column.name for column in USER_COLUMNS) if text == "all" else tuple(text.split(","))
    if not set(names) <= USER_COLUMN.keys() or len(set(names)) < len(names):
        raise _bad(f"fields must be all, or some of {','.join(USER_COLUMN)}, each once")
    return names


def _order(text: str | None) -> Order | None:
    if text is None:
        return None
    column = ORDERS.get(text.removeprefix("-"))
    if column is None:
        raise _bad(f"sort must be one of {', '.join(ORDERS)}, with a - before it for the greatest first")
    return Order(column, text.startswith("-"))


def _whole(parameters: Mapping[str, str], name: str) -> int | None:
    text = parameters.get(name)
    if text is None:
        return None
    if not _WHOLE.fullmatch(text):
        raise _bad(f"{name} must be a whole number")
    return int(text)


def _hours(parameters: Mapping[str, str], name: str) -> Decimal | None:
    text = parameters.get(name)
    if text is None:
        return None
    if not _DECIMAL.fullmatch(text):
        raise _bad(f"{name} must be hours, as in 1.5")
    return Decimal(text)


def _text(parameters: Mapping[str, str], name: str) -> str:
    text = parameters.get(name, "")
    if "\ufffd" in text:
        raise _bad(f"{name} must be UTF-8, percent-encoded")
    return text


def _bad(message: str) -> RequestRefusedError:
    return RequestRefusedError("bad_parameter", message)
