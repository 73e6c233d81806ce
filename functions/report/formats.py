"""The formats of the report's tables: their names, media types and encoders; and which one a request wants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from functions.core.errors import RequestRefusedError
from functions.core.negotiation import preferred_type
from functions.core.report_texts import Csv, JsonArray, JsonLines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functions.core.report_columns import Column
    from functions.core.report_texts import TableEncoder


@dataclass(frozen=True, slots=True, eq=False)
class Format:
    """One format of tables."""

    name: str
    media_type: str
    encoder: Callable[[Sequence[Column]], TableEncoder]
    accepted: tuple[str, ...] = ()
    """Further media types by which it may be asked for."""
    packs_itself: bool = False
    """Whether packing it once more would gain nothing."""


def _arrow(columns: Sequence[Column]) -> TableEncoder:
    from functions.adapters.arrow_tables import ArrowStream  # noqa: PLC0415  # 0.2 s and 60 MB that few ask for

    return ArrowStream(columns)


def _parquet(columns: Sequence[Column]) -> TableEncoder:
    from functions.adapters.arrow_tables import ParquetFile  # noqa: PLC0415  # see above

    return ParquetFile(columns)


JSON: Final = Format("json", "application/json", JsonArray)
FORMATS: Final = {
    each.name: each
    for each in (
        JSON,
        Format(
            "ndjson", "application/x-ndjson", JsonLines,
            ("application/ndjson", "application/jsonl", "application/x-jsonlines"),
        ),
        Format("csv", "text/csv; charset=utf-8; header=present", Csv),
        Format("arrow", "application/vnd.apache.arrow.stream", _arrow),
        Format(
            "parquet", "application/vnd.apache.parquet", _parquet, ("application/x-parquet",), packs_itself=True
        ),
    )
}  # fmt: skip

_BY_TYPE: Final = {
    media_type: each for each in FORMATS.values() for media_type in (each.media_type.partition(";")[0], *each.accepted)
}
HTML: Final = "text/html"


def wants_page(accept: str | None) -> bool:
    """Tell whether a browser asks: HTML is wanted more than any format of tables."""
    return accept is not None and preferred_type(accept, (*_BY_TYPE, HTML)) == HTML


@lru_cache(256)  # a client sends the same header each time
def format_for(accept: str | None, asked: str | None, offered: tuple[Format, ...]) -> Format:
    """Return the format of a reply: the one asked for by name, else the one that ``Accept`` likes best.

    Raises:
        RequestRefusedError: None that the asker takes (406), or this answer does not come in that format (400).
    """
    if asked is not None:
        chosen = FORMATS[asked]
        if chosen not in offered:
            raise RequestRefusedError(
                "bad_parameter", f"format must be {' or '.join(each.name for each in offered)} here"
            )
        return chosen
    types = [media_type for media_type, each in _BY_TYPE.items() if each in offered]
    best = preferred_type(accept, types)
    if best is None:
        raise RequestRefusedError(
            "not_acceptable",
            f"Accept must allow one of: {', '.join(each.media_type.partition(';')[0] for each in offered)}",
            status=406,
        )  # fmt: skip
    return _BY_TYPE[best]
