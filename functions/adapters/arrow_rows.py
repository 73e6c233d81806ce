"""Many users' packed totals in Arrow's columns: put in order, rounded and written as text without an object a user.

What functions/core/report_rows.py and report_texts.py do in Python, for the columns that most ask for, at a fraction
of the time where there are many users. Imported only then: it takes 0.1 s and 50 MB. Arrow's kernels let go of Python's
lock, so other requests are served meanwhile where this runs in a thread of its own.
"""

from __future__ import annotations

from array import array
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from functions.core.report_rows import hundredths_of, is_current
from functions.core.report_summary import Summary
from functions.core.report_texts import hours_text
from functions.core.spans import NOT_KEPT, TOTALS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.report_texts import TextEncoder

pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own holds on to tens of megabytes that the rest could use

_SECONDS: Final = (1, 9, pa.int64())
_SESSIONS: Final = (9, 13, pa.uint32())
_CLOSED_SESSIONS: Final = (37, 41, pa.uint32())
_UNCLOSED: Final = (41, 45, pa.uint32())
"""Where they stand in packed totals; see functions/core/spans.py."""

_MOST_SECONDS: Final = 2**60
"""With more, sums might not fit into 64 bits."""


def _array_of(texts: Sequence[bytes]) -> Any:
    """Return texts as an array.

    By its buffers, since `pa.array` and `pa.scalar` import Pandas where it is installed, to see what they are given.
    """
    offsets = pa.py_buffer(array("i", [0, *accumulate(map(len, texts))]))
    return pa.Array.from_buffers(pa.binary(), len(texts), [None, offsets, pa.py_buffer(b"".join(texts))])


def _numbers_of(numbers: Sequence[int]) -> Any:
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(array("q", numbers))])


_ZERO, _HALF_S, _HUNDREDTH_S, _UNKNOWN = _numbers_of([0, 18, 36, NOT_KEPT])


class SortedRows:
    """Users and their averages, in the order of the ids' bytes."""

    def __init__(self, ids: Any, hundredths: Any) -> None:
        self._ids = ids
        self._order = pc.sort_indices(ids)
        encoded = hundredths.dictionary_encode()
        self._hundredths = encoded.dictionary
        self._places = encoded.indices
        self._texts = _array_of([*map(hours_text, encoded.dictionary.to_pylist())])
        self._as_they_are: bool | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def text(self, encoder: TextEncoder, start: int, rows: int) -> bytes:
        """Return what the encoder, always the same one, makes of some rows' ids and averages; there are some."""
        if self._as_they_are is None:
            starts = _text_of(pc.binary_slice(self._ids, 0, 1))
            self._as_they_are = encoder.writes_as_they_are(_text_of(self._ids), starts, len(self))
        order = self._order.slice(start, rows)
        ids, places = self._ids.take(order), self._places.take(order)
        if not self._as_they_are:
            return encoder.text([ids.to_pylist(), self._hundredths.take(places).to_pylist()])
        *around, last = encoder.around
        before, between, after, nothing = _array_of([*around, last + encoder.separator, b""])
        text = _text_of(pc.binary_join_element_wise(before, ids, between, self._texts.take(places), after, nothing))
        return text.removesuffix(encoder.separator)


def sorted_rows(ids: Sequence[bytes], values: Sequence[bytes]) -> SortedRows | None:
    """Return users' rows from an averages hash; None where some value is not of the usual kind."""
    columns = _columns_of(values)
    if columns is None:
        return None
    packed, there = columns
    names = _array_of(ids)
    if there is not None:
        names = names.filter(there)
    return SortedRows(names, _hundredths_of(_numbers(packed, _SECONDS), _numbers(packed, _SESSIONS)))


def summary_of(values: Sequence[bytes]) -> Summary | None:
    """Return the summary of users from an averages hash; None where some value is not of the usual kind."""
    columns = _columns_of(values)
    if columns is None:
        return None
    packed, _ = columns
    seconds, sessions, unclosed = (_numbers(packed, place) for place in (_SECONDS, _SESSIONS, _UNCLOSED))
    kept = not pc.any(pc.equal(unclosed, _UNKNOWN)).as_py()
    summary = Summary(
        users=len(packed),
        sessions=pc.sum(sessions).as_py() or 0,
        seconds=pc.sum(seconds).as_py() or 0,
        closed_sessions=(pc.sum(_numbers(packed, _CLOSED_SESSIONS)).as_py() or 0) if kept else None,
        unclosed=(pc.sum(unclosed).as_py() or 0) if kept else None,
    )
    counted = _hundredths_of(seconds, sessions).value_counts()
    summary.count(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))
    return summary


def _columns_of(values: Sequence[bytes]) -> tuple[Any, Any] | None:
    """Return the packed totals of who has a session, and who has, where some have none."""
    text = b"".join(values)
    if not is_current(text, values):
        return None
    packed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(TOTALS.size), len(values), [None, pa.py_buffer(text)])
    bounds = pc.min_max(_numbers(packed, _SECONDS)).as_py()
    if not 0 <= bounds["min"] <= bounds["max"] < _MOST_SECONDS:
        return None
    there = pc.not_equal(_numbers(packed, _SESSIONS), _ZERO)
    return (packed, None) if pc.all(there).as_py() else (packed.filter(there), there)


def _numbers(packed: Any, place: tuple[int, int, Any]) -> Any:
    start, end, kind = place
    cut = pc.binary_slice(packed, start, end)
    return pa.Array.from_buffers(kind, len(cut), [None, cut.buffers()[1]], offset=cut.offset).cast(pa.int64())


def _hundredths_of(seconds: Any, sessions: Any) -> Any:
    """Return averages in hundredths of an hour, as `hundredths_of` does, which decides where a half is met."""
    halves = pc.add(seconds, pc.multiply(sessions, _HALF_S))
    units = pc.multiply(sessions, _HUNDREDTH_S)
    hundredths = pc.divide(halves, units)
    met = pc.equal(halves, pc.multiply(hundredths, units))
    if not pc.any(met).as_py():
        return hundredths
    decided = hundredths_of(seconds.filter(met).to_pylist(), sessions.filter(met).to_pylist())
    return pc.replace_with_mask(hundredths, met, _numbers_of(decided))


def _text_of(texts: Any) -> bytes:
    """Return all texts of an array that a kernel has made, one behind the other."""
    _, offsets, text = texts.buffers()
    length = pa.Array.from_buffers(pa.int32(), 1, [None, offsets], offset=len(texts))[0].as_py()
    whole: bytes = text.slice(0, length).to_pybytes()
    return whole
