"""Verifying state and report: each user's averages against the spans, and whether there are others.

A page of users is computed by column, by other means than the fold's; whoever seems wrong, in plain Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from functions.core import span_packing, spans
from functions.core.spans import NOT_KEPT, TOTALS, TOTALS_FORMAT, Totals
from spark.columns import TotalsColumns, hundredths_in, hundredths_of, unpack_totals
from spark.span_tables import spans_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from functions.adapters.redis_checks import CheckedStore, UserValues
    from functions.core.spans import UserSpans
    from spark.findings import Findings, OnProgress

    Ints = npt.NDArray[np.int64]

_SECOND_US: Final = 1_000_000
_OPENINGS: Final = ("kept", "closed_seconds", "closed_sessions", "unclosed")


def check_state(store: CheckedStore, found: Findings, on_progress: OnProgress, *, keep: bool) -> dict[bytes, bytes]:
    """Compare each user's averages with the spans, both ways; return the packed spans, where they are to be kept."""
    suspects: set[bytes] = set()
    held: dict[bytes, bytes] = {}
    known: dict[bytes | None, set[bytes]] = {}
    users = 0
    for page in store.span_pages(found.shard):
        sound = _sound(page)
        suspects |= page.keys() - sound.keys()
        suspects |= _suspects_of(store, found, sound, known)
        if keep:
            held |= sound
        users += len(page)
        on_progress("users", len(page))
    found.users = users
    for merchant in (None, *store.merchants(found.shard)):
        for page in store.average_pages(found.shard, merchant):
            suspects |= page.keys() - known.get(merchant, set())
            on_progress("averages", len(page))
    found.add(
        deviation for user in sorted(suspects) for deviation in _deviations_of(user, store.user_now(found.shard, user))
    )
    return held


def _sound(page: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return those of a page whose spans can be read."""
    try:
        spans_of(page)
    except ValueError:
        return {user: value for user, value in page.items() if _is_sound(value)}
    return page


def _is_sound(value: bytes) -> bool:
    try:
        span_packing.unpack_spans(value)
    except ValueError:
        return False
    return True


def _suspects_of(
    store: CheckedStore, found: Findings, page: dict[bytes, bytes], known: dict[bytes | None, set[bytes]]
) -> set[bytes]:
    """Return the users of a page whose averages, read a little later, are not those of their spans.

    ``known`` takes who has spans, overall (None) and at each merchant.
    """
    table = spans_of(page)
    found.spans += len(table)
    encoded = table["user"].combine_chunks().dictionary_encode()
    users: list[bytes] = encoded.dictionary.to_pylist()
    user = encoded.indices.to_numpy().astype(np.int64)
    at_merchants = _totals_at_merchants(table, user, users)
    wanted = {merchant: [users[place] for place in places] for merchant, places, _ in at_merchants}
    known.setdefault(None, set()).update(users)
    for merchant, names in wanted.items():
        known.setdefault(merchant, set()).update(names)
    overall, stored = store.averages_of(found.shard, users, wanted)
    suspects = page.keys() - known[None]  # who has no span at all
    suspects |= {users[place] for place in _unfit(overall, _totals_of_users(table, user))}
    for merchant, places, totals in at_merchants:
        suspects |= {users[places[place]] for place in _unfit(stored[merchant], totals)}
    return suspects


def _totals_of_users(table: pa.Table, user: Ints) -> TotalsColumns:
    """Return the users' totals, in order: spans of one flyer are one span before they count, but for the openings."""
    flyer = table["flyer_id"].combine_chunks().dictionary_encode().indices
    flyers = (
        pa.table({"user": user, "flyer": flyer, **{name: table[name] for name in ("first_us", "last_us", "events")}})
        .group_by(["user", "flyer"])
        .aggregate([("first_us", "min"), ("last_us", "max"), ("events", "sum")])
    )
    first_us, last_us, events = (flyers[name].to_numpy() for name in ("first_us_min", "last_us_max", "events_sum"))
    openings = _rows(user, table["first_us"].to_numpy(), table["last_us"].to_numpy(), None, table)
    return _totals(pa.concat_tables([_rows(flyers["user"].to_numpy(), first_us, last_us, events), openings]))[1]


def _totals_at_merchants(
    table: pa.Table, user: Ints, users: list[bytes]
) -> list[tuple[bytes, list[int], TotalsColumns]]:
    """Return each merchant with the places of its users, in order, and their totals there."""
    encoded = table["merchant_id"].combine_chunks().dictionary_encode()
    merchants: list[str] = encoded.dictionary.to_pylist()
    key = encoded.indices.to_numpy().astype(np.int64) * len(users) + user
    first_us, last_us, events = (table[name].to_numpy() for name in ("first_us", "last_us", "events"))
    keys, totals = _totals(_rows(key, first_us, last_us, events, table))
    bounds = np.searchsorted(keys, np.arange(len(merchants) + 1) * len(users))
    return [
        (merchant.encode(), (keys[start:end] % len(users)).tolist(), totals.take(np.arange(start, end)))
        for merchant, start, end in zip(merchants, bounds[:-1], bounds[1:], strict=True)
        if merchant
    ]


def _rows(key: Ints, first_us: Ints, last_us: Ints, events: Ints | None, openings: pa.Table | None = None) -> pa.Table:
    """Return what totals are summed up from; without ``events`` or ``openings`` those count nothing."""
    nothing = np.zeros(len(key), np.int64)
    return pa.table(
        {
            "key": key,
            "first_us": first_us,
            "last_us": last_us,
            "seconds": nothing if events is None else last_us // _SECOND_US - first_us // _SECOND_US,
            "sessions": nothing if events is None else events - 1,
            **{name: nothing if openings is None else openings[name] for name in _OPENINGS},
        }
    )


def _totals(rows: pa.Table) -> tuple[Ints, TotalsColumns]:
    """Return keys, in order, with the totals of their rows."""
    names = ("seconds", "sessions", *_OPENINGS)
    sums = (
        rows.group_by("key")
        .aggregate([("first_us", "min"), ("last_us", "max"), *((name, "sum") for name in names)])
        .sort_by("key")
    )
    column = {name: sums[name].to_numpy() for name in sums.column_names}
    kept = column["kept_sum"] > 0
    return column["key"], TotalsColumns(
        column["seconds_sum"],
        column["sessions_sum"],
        column["first_us_min"],
        column["last_us_max"],
        column["closed_seconds_sum"],
        np.where(kept, column["closed_sessions_sum"], NOT_KEPT),
        np.where(kept, column["unclosed_sum"], NOT_KEPT),
    )


def _unfit(stored: Sequence[bytes | None], totals: TotalsColumns) -> list[int]:
    """Return the places where stored totals are not these; where there are none, or older ones, one by one."""
    usual = np.array([_is_usual(value) for value in stored], np.bool_)
    values = [value for value in stored if value and _is_usual(value)]
    held, given = unpack_totals(values), totals.take(usual)
    not_kept = (held.unclosed == NOT_KEPT) | (given.unclosed == NOT_KEPT)
    for columns in (held, given):
        for name in ("closed_seconds", "closed_sessions", "unclosed"):
            getattr(columns, name)[not_kept] = 0
    differs = held.differ(given) | (hundredths_in(values) != hundredths_of(held.seconds, held.sessions))
    unfit: list[int] = np.flatnonzero(usual)[differs].tolist()
    for place in np.flatnonzero(~usual).tolist():
        own = Totals(*(int(getattr(totals, name)[place]) for name in totals.__slots__))
        if not _fits(stored[place], Totals(*own[:4]) if own.unclosed == NOT_KEPT else own):
            unfit.append(place)
    return unfit


def _is_usual(value: bytes | None) -> bool:
    return value is not None and len(value) == TOTALS.size and value[0] == TOTALS_FORMAT


def _of_merchant(own: UserSpans, merchant: bytes) -> UserSpans:
    return {key: span for key, span in own.items() if key[1] == merchant.decode()}


def _fits(value: bytes | None, totals: Totals) -> bool:
    """Tell whether stored totals are these, as far as they were kept: older versions kept fewer, not of everybody."""
    if value is None:
        return totals.sessions == 0
    try:
        stored = spans.unpack_totals(value)
    except ValueError:
        return False
    if not _is_ready(value, stored):
        return False
    return all(one is None or other is None or one == other for one, other in zip(stored, totals, strict=True))


def _is_ready(value: bytes, totals: Totals) -> bool:
    """Tell whether the average that stands ready is that of the totals beside it; older formats have none."""
    return not _is_usual(value) or value == spans.pack_totals(totals)


def _deviations_of(user: bytes, now: UserValues) -> list[str]:
    """Return what does not fit in what is held of a user at one moment."""
    name = repr(user.decode(errors="replace"))
    try:
        own = {} if now.spans is None else span_packing.unpack_spans(now.spans)
    except ValueError as e:
        return [f"state: user {name}: {e}"]
    deviations = []
    if now.spans is None and now.overall is not None:
        deviations.append(f"report: user {name} has averages, but no spans")
    elif not _fits(now.overall, spans.totals_of(own)):
        deviations.append(f"report: user {name} has {_shown(now.overall)}; the spans give {_given(own)}")
    for merchant in sorted({merchant.encode() for _, merchant in own if merchant} | now.merchants.keys()):
        of_merchant = _of_merchant(own, merchant)
        value = now.merchants.get(merchant)
        if (value is not None and not of_merchant) or not _fits(value, spans.totals_of(of_merchant)):
            deviations.append(
                f"report: user {name} of merchant {merchant.decode()!r} has {_shown(value)}; "
                f"the spans give {_given(of_merchant)}"
            )
    return deviations


def _shown(value: bytes | None) -> str:
    if value is None:
        return "no averages"
    try:
        totals = spans.unpack_totals(value)
    except ValueError as e:
        return str(e)
    ready = "" if _is_ready(value, totals) else f"{hundredths_in([value])[0] / 100} h made ready of "
    return f"{ready}{totals.seconds:,} s in {totals.sessions:,} sessions, from {totals.first_us} to {totals.last_us} µs"


def _given(own: UserSpans) -> str:
    return _shown(spans.pack_totals(spans.totals_of(own))) if own else "none"
