"""Arrow's kernels that the report calls, without `pyarrow.compute`.

That module makes a function with signature and docstring of each of some three hundred kernels as it is imported, which
takes longer than all the rest of Arrow: 79 of 144 ms, and as much of a first answer. So do the arrays' own methods that
compute something, which import it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from pyarrow import _compute

_call: Final = _compute.call_function

_TAKEN: Final = _compute.TakeOptions(boundscheck=False)
_FILTERED: Final = _compute.FilterOptions()
_SORTED: Final = _compute.ArraySortOptions()
_JOINED: Final = _compute.JoinOptions()
_AGGREGATED: Final = _compute.ScalarAggregateOptions()


def take(values: Any, places: Any) -> Any:
    """Return the values at places that are known to be there."""
    return _call("array_take", [values, places], _TAKEN)


def where(values: Any, wanted: Any) -> Any:
    """Return the values that are wanted."""
    return _call("array_filter", [values, wanted], _FILTERED)


def cast(values: Any, kind: Any) -> Any:
    """Return numbers of another type, which holds them."""
    return _call("cast", [values], _compute.CastOptions.safe(kind))


def binary_slice(texts: Any, start: int, end: int) -> Any:
    """Return some bytes of each text."""
    return _call("binary_slice", [texts], _compute.SliceOptions(start, end))


def joined(texts: Any, others: Any, between: Any) -> Any:
    """Return each text and another one as one, with something between them."""
    return _call("binary_join_element_wise", [texts, others, between], _JOINED)


def places_in_order(values: Any) -> Any:
    """Return the places of values in the order of these; of equal ones the first comes first."""
    return _call("array_sort_indices", [values], _SORTED)


def bounds(values: Any) -> tuple[Any, Any]:
    """Return the least and the largest value."""
    found = _call("min_max", [values], _AGGREGATED).as_py()
    return found["min"], found["max"]


def largest(values: Any) -> Any:
    """Return the largest value; None where there is none."""
    return _call("max", [values], _AGGREGATED).as_py()


def total(values: Any) -> int:
    """Return the sum."""
    return int(_call("sum", [values], _AGGREGATED).as_py() or 0)


def dictionary(values: Any) -> Any:
    """Return values as different ones, and the place of each among these."""
    return _call("dictionary_encode", [values], _compute.DictionaryEncodeOptions())


def counts(values: Any) -> Any:
    """Return different values, and how many there are of each."""
    return _call("value_counts", [values])


def places_of_true(values: Any) -> list[int]:
    """Return the places of what is true."""
    places: list[int] = _call("indices_nonzero", [values]).to_pylist()
    return places


def is_any_true(values: Any) -> bool:
    """Tell whether something is true."""
    return bool(_call("any", [values], _AGGREGATED).as_py())


def _of_two(name: str, left: Any, right: Any) -> Any:
    return _call(name, [left, right])


equal: Final = partial(_of_two, "equal")
not_equal: Final = partial(_of_two, "not_equal")
bit_wise_and: Final = partial(_of_two, "bit_wise_and")
shift_right: Final = partial(_of_two, "shift_right")
