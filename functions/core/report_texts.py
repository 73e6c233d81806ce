"""Tables as text: a JSON array, JSON a line, or CSV, slice by slice. Pure.

A slice is one ``%`` with a template of all of its rows: an eighth of a microsecond a row, where an encoder that makes
an object of each takes several times as long.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from operator import add
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import msgspec

from functions.core.report_columns import Column, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class TableEncoder(Protocol):
    """Makes the bytes of one table, slice by slice."""

    def begin(self) -> bytes:
        """Return what comes before the first row."""

    def rows(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """Return the bytes of a slice, given column by column; may be empty where the format gathers more first."""

    def end(self) -> bytes:
        """Return what comes after the last row."""


@runtime_checkable
class TextEncoder(TableEncoder, Protocol):
    """An encoder whose slices are texts that can be kept, and put into a table of the same columns again."""

    around: tuple[bytes, ...]
    """What stands before, between and behind a row's values where those are written as they are."""
    separator: bytes
    """What stands between two rows."""
    looks_at_starts: bool
    """Whether it hangs on a text's first byte how it is written."""

    def writes_as_they_are(self, texts: bytes, starts: bytes, count: int) -> bool:
        """Tell whether so many texts are, given joined, and with the first byte of each."""

    def text(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """Return a slice as text, wherever it comes to stand; it has rows."""

    def placed(self, text: bytes) -> bytes:
        """Return a slice's text with what stands between it and the one before."""


class JsonArray:
    """A JSON array of objects."""

    separator = b","
    looks_at_starts = False

    def __init__(self, columns: Sequence[Column]) -> None:
        self.around = _json_around(tuple(columns))
        self._kinds = [column.kind for column in columns]
        self._template = _json_template(tuple(columns)) + b","
        self._first = True

    def begin(self) -> bytes:
        """Return the bracket."""
        return b"["

    def rows(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """Return objects, with a comma between those that there are."""
        return self.placed(self.text(columns)) if columns[0] else b""

    def writes_as_they_are(self, texts: bytes, _: bytes, __: int) -> bool:
        """Tell whether nothing is to be escaped."""
        return _is_plain_json(texts)

    def text(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """Return objects."""
        return _paired(self, columns, self._kinds) or _filled(self._template, columns, self._kinds, _JSON_TEXTS)[:-1]

    def placed(self, text: bytes) -> bytes:
        """Return objects after a comma, where some stand before them."""
        if self._first:
            self._first = False
            return text
        return b"," + text

    def end(self) -> bytes:
        """Return the other bracket."""
        return b"]"


class JsonLines:
    """An object a line (NDJSON)."""

    separator = b""
    looks_at_starts = False

    def __init__(self, columns: Sequence[Column]) -> None:
        *before, last = _json_around(tuple(columns))
        self.around = (*before, last + b"\n")
        self._kinds = [column.kind for column in columns]
        self._template = _json_template(tuple(columns)) + b"\n"

    def begin(self) -> bytes:
        """Return nothing."""
        return b""

    def rows(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """Return lines."""
        return self.text(columns)

    def writes_as_they_are(self, texts: bytes, _: bytes, __: int) -> bool:
        """Tell whether nothing is to be escaped."""
        return _is_plain_json(texts)

    def text(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """Return lines."""
        return _paired(self, columns, self._kinds) or _filled(self._template, columns, self._kinds, _JSON_TEXTS)

    def placed(self, text: bytes) -> bytes:
        """Return lines as they are."""
        return text

    def end(self) -> bytes:
        """Return nothing."""
        return b""


class Csv:
    """CSV as RFC 4180 has it: a header, CRLF, quotes where they are needed.

    A text that a spreadsheet would take for a formula gets an apostrophe before it, as OWASP advises ("CSV Injection").
    """

    separator = b""
    looks_at_starts = True

    def __init__(self, columns: Sequence[Column]) -> None:
        self.around = (b"", *[b","] * (len(columns) - 1), b"\r\n")
        self._columns = columns
        self._kinds = [column.kind for column in columns]
        self._template = b",".join(b"%b" for _ in columns) + b"\r\n"

    def begin(self) -> bytes:
        """Return the header."""
        return ",".join(column.name for column in self._columns).encode() + b"\r\n"

    def rows(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """Return lines."""
        return self.text(columns)

    def writes_as_they_are(self, texts: bytes, starts: bytes, count: int) -> bool:
        """Tell whether none is quoted, or taken for a formula."""
        return _is_plain_csv(texts, starts, count)

    def text(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """Return lines."""
        return _paired(self, columns, self._kinds) or _filled(self._template, columns, self._kinds, _CSV_TEXTS)

    def placed(self, text: bytes) -> bytes:
        """Return lines as they are."""
        return text

    def end(self) -> bytes:
        """Return nothing."""
        return b""


@lru_cache(256)
def _json_template(columns: tuple[Column, ...]) -> bytes:
    return b"{" + b",".join(b'"%b":%%b' % column.name.encode() for column in columns) + b"}"


@lru_cache(256)
def _json_around(columns: tuple[Column, ...]) -> tuple[bytes, ...]:
    quoted = (
        b"{"
        + b",".join(
            b'"%b":%b' % (column.name.encode(), b'"%b"' if column.kind is Kind.TEXT else b"%b") for column in columns
        )
        + b"}"
    )
    return (*quoted.split(b"%b"),)


_PAIR: Final = [Kind.TEXT, Kind.HOURS]


def _paired(encoder: TextEncoder, columns: Sequence[Sequence[Any]], kinds: Sequence[Kind]) -> bytes | None:
    """Return rows of what most ask for, an id and an average, in a fifth of the time; None where it is something else.

    Each average is one text with all that stands between it and the ids around it.
    """
    if kinds != _PAIR or not columns[0] or None in columns[1]:
        return None
    ids, hundredths = columns
    if not (_are_plain(ids) or _written_as_they_are(encoder, ids)):
        return None
    before, between, last = encoder.around
    parts: list[bytes] = [before] * (2 * len(ids) + 1)
    parts[1::2] = ids
    parts[2::2] = map(around_hours(between, last + encoder.separator + before).__getitem__, hundredths)
    parts[-1] = between + hours_text(hundredths[-1]) + last
    return b"".join(parts)


def text_by_id(
    encoder: TextEncoder, ids: Sequence[bytes], hundredths: Sequence[int], starts: bytes = b""
) -> bytes | None:
    """Return ids and averages that come in no order, by the ids' bytes; None where it takes another way.

    Texts are put in order, rather than all that they are made of. What stands behind an id does not count then where
    it is less than any letter or digit, or where no id is longer than another.

    Args:
        encoder: Of the format.
        ids: There are some.
        hundredths: Their averages, none of which is missing.
        starts: Each id's first byte, where it is known that all are as long as the first one.
    """
    if starts:
        if not encoder.writes_as_they_are(b"".join(ids), starts, len(ids)):
            return None
    elif not _are_plain(ids) and (len({*map(len, ids)}) != 1 or not _written_as_they_are(encoder, ids)):
        return None
    before, between, last = encoder.around
    behind = last + encoder.separator + before
    texts = [*map(add, ids, map(around_hours(between, behind).__getitem__, hundredths))]
    texts.sort()
    texts[-1] = texts[-1][: len(texts[-1]) - len(behind) + len(last)]
    return b"".join((before, *texts))


def _are_plain(texts: Sequence[bytes]) -> bool:
    """Tell whether all are letters and digits of ASCII, which every format writes as they are."""
    return b"".join(texts).isalnum() and all(texts)


def _written_as_they_are(encoder: TextEncoder, texts: Sequence[bytes]) -> bool:
    starts = b"".join([text[:1] for text in texts]) if encoder.looks_at_starts else b""
    return encoder.writes_as_they_are(b"".join(texts), starts, len(texts))


class _AroundHours(dict[int, bytes]):
    """Hundredths of an hour as text, with what stands before and behind; the usual ones are kept."""

    def __init__(self, before: bytes, behind: bytes) -> None:
        super().__init__()
        self._before = before
        self._behind = behind

    def __missing__(self, hundredths: int) -> bytes:
        text = self._before + hours_text(hundredths) + self._behind
        if hundredths < _USUAL_HUNDREDTHS // 10:
            self[hundredths] = text
        return text


@lru_cache(8)
def around_hours(before: bytes, behind: bytes) -> Mapping[int, bytes]:
    """Return hundredths of an hour as text, with what stands before and behind."""
    return _AroundHours(before, behind)


def _filled(
    template: bytes,
    columns: Sequence[Sequence[Any]],
    kinds: Sequence[Kind],
    texts: dict[Kind, Callable[[Sequence[Any]], Sequence[bytes]]],
) -> bytes:
    count = len(columns[0])
    if count > _ROWS_AT_ONCE:
        starts = range(0, count, _ROWS_AT_ONCE)
        slices = ([column[start : start + _ROWS_AT_ONCE] for column in columns] for start in starts)
        return b"".join([_filled(template, some, kinds, texts) for some in slices])
    parts: list[bytes] = [b""] * (len(kinds) * count)
    for place, (kind, column) in enumerate(zip(kinds, columns, strict=True)):
        parts[place :: len(kinds)] = texts[kind](column)
    return _repeated(template)[: len(template) * count] % tuple(parts)


_ROWS_AT_ONCE: Final = 4_096


@lru_cache(4)
def _repeated(template: bytes) -> bytes:
    """Return a template for as many rows as are filled in at once; that of fewer is cut off from it."""
    return template * _ROWS_AT_ONCE


class _HoursTexts(dict[int, bytes]):
    """Hundredths of an hour as text; the usual ones are kept."""

    def __missing__(self, hundredths: int) -> bytes:
        text = repr(hundredths / 100).encode()
        if hundredths < _USUAL_HUNDREDTHS:
            self[hundredths] = text
        return text


_USUAL_HUNDREDTHS: Final = 65_536
hours_text: Final = _HoursTexts().__getitem__
"""Returns hundredths of an hour in hours."""


def _hours(values: Sequence[int]) -> list[bytes]:
    return [*map(hours_text, values)]


def _lacks(text: bytes, special: bytes) -> bool:
    """Tell whether a text has none of these bytes."""
    return len(text.translate(None, special)) == len(text)


_JSON_ESCAPED: Final = bytes([*range(0x20), *b'"\\'])


def _is_plain_json(text: bytes) -> bool:
    return text.isalnum() or _lacks(text, _JSON_ESCAPED)


def _json_strings(values: Sequence[bytes]) -> list[bytes]:
    if not _is_plain_json(b"".join(values)):
        return [msgspec.json.encode(value.decode()) for value in values]
    return [b'"%b"' % value for value in values]


def _counts(values: Sequence[int | None], missing: bytes) -> list[bytes]:
    return [missing if value is None else b"%d" % value for value in values]


_DAY_US: Final = 86_400_000_000
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


@lru_cache(4096)
def _day_text(day: int) -> bytes:
    return date.fromordinal(_EPOCH_DAY + day).isoformat().encode()


def _moment(moment_us: int) -> bytes:
    """Return what `format_us` does, which takes twice as long."""
    day, us = divmod(moment_us, _DAY_US)
    second, us = divmod(us, 1_000_000)
    minute, second = divmod(second, 60)
    if us:
        return b"%bT%02d:%02d:%02d.%06dZ" % (_day_text(day), minute // 60, minute % 60, second, us)
    return b"%bT%02d:%02d:%02dZ" % (_day_text(day), minute // 60, minute % 60, second)


_JSON_TEXTS: Final[dict[Kind, Callable[[Sequence[Any]], Sequence[bytes]]]] = {
    Kind.TEXT: _json_strings,
    Kind.HOURS: lambda values: _hours(values) if None not in values else [_or(hours_text, v, b"null") for v in values],
    Kind.COUNT: lambda values: _counts(values, b"null"),
    Kind.MOMENT: lambda values: [b"null" if value is None else b'"%b"' % _moment(value) for value in values],
}

_CSV_QUOTED: Final = re.compile(rb'[",\r\n]')
_FORMULA: Final = re.compile(rb"[=+\-@\t\r\n\x00]|\xef\xbc[\x9d\x8b\x8d]|\xef\xbc\xa0")
"""Where a spreadsheet may begin to calculate; also the full-width forms of the signs, which some take for the same."""
_CSV_SPECIAL: Final = (b'"', b",", b"\r", b"\n")
_FORMULA_STARTS: Final = b"=+-@\t\r\n\x00\xef"
"""First bytes of what `_FORMULA` may find."""


def _csv_text(value: bytes) -> bytes:
    if not value:
        return b'""'  # a text, where nothing at all would be read as none
    if _FORMULA.match(value):
        value = b"'" + value
    return b'"%b"' % value.replace(b'"', b'""') if _CSV_QUOTED.search(value) else value


def _is_plain_csv(text: bytes, starts: bytes, count: int) -> bool:
    """Tell it of texts and the first byte of each, of which an empty text has none."""
    return (
        len(starts) == count and not any(mark in text for mark in _CSV_SPECIAL) and _lacks(starts, _FORMULA_STARTS)
    )  # fmt: skip


def _csv_strings(values: Sequence[bytes]) -> Sequence[bytes]:
    starts = b"".join([value[:1] for value in values])
    return values if _is_plain_csv(b"".join(values), starts, len(values)) else [_csv_text(value) for value in values]


def _or(text: Callable[[int], bytes], value: int | None, missing: bytes) -> bytes:
    return missing if value is None else text(value)


_CSV_TEXTS: Final[dict[Kind, Callable[[Sequence[Any]], Sequence[bytes]]]] = {
    Kind.TEXT: _csv_strings,
    Kind.HOURS: lambda values: _hours(values) if None not in values else [_or(hours_text, v, b"") for v in values],
    Kind.COUNT: lambda values: _counts(values, b""),
    Kind.MOMENT: lambda values: [b"" if value is None else _moment(value) for value in values],
}
