"""Verifying state and report: each user's averages against the spans, and whether there are others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.core import span_packing, spans

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.adapters.redis_checks import CheckedStore, UserValues
    from functions.core.spans import Totals, UserSpans
    from spark.findings import Findings, SpansByUser


def check_state(store: CheckedStore, found: Findings, on_progress: Callable[[int], None], *, keep: bool) -> SpansByUser:
    """Compare each user's averages with the spans, both ways; return the spans, where they are to be kept."""
    suspects: set[bytes] = set()
    held: SpansByUser = {}
    known: dict[bytes | None, set[bytes]] = {}
    users = 0
    for page in store.span_pages(found.shard):
        suspects |= _suspects_of(store, found, page, held if keep else None, known)
        users += len(page)
        on_progress(len(page))
    found.users = users
    for merchant in (None, *store.merchants(found.shard)):
        for page in store.average_pages(found.shard, merchant):
            suspects |= page.keys() - known.get(merchant, set())
    found.add(
        deviation for user in sorted(suspects) for deviation in _deviations_of(user, store.user_now(found.shard, user))
    )
    return held


def _suspects_of(
    store: CheckedStore,
    found: Findings,
    page: dict[bytes, bytes],
    held: SpansByUser | None,
    known: dict[bytes | None, set[bytes]],
) -> set[bytes]:
    """Return the users of a page whose averages, read a little later, are not those of their spans.

    ``known`` takes who has spans, overall (None) and at each merchant.
    """
    suspects: set[bytes] = set()
    own: dict[bytes, UserSpans] = {}
    by_merchant: dict[bytes, dict[bytes, UserSpans]] = {}
    for user, value in page.items():
        try:
            own[user] = span_packing.unpack_spans(value)
        except ValueError:
            suspects.add(user)
            continue
        found.spans += len(own[user])
        for key, span in own[user].items():
            if key[1]:
                by_merchant.setdefault(key[1].encode(), {}).setdefault(user, {})[key] = span
    known.setdefault(None, set()).update(own)
    for name, some in by_merchant.items():
        known.setdefault(name, set()).update(some)
    if held is not None:
        held |= own
    wanted = {name: list(some) for name, some in by_merchant.items()}
    overall, merchants = store.averages_of(found.shard, list(own), wanted)
    suspects |= {user for user, value in zip(own, overall, strict=True) if not _fits(value, spans.totals_of(own[user]))}
    for name, some in by_merchant.items():
        for (user, of_merchant), stored in zip(some.items(), merchants[name], strict=True):
            if not _fits(stored, spans.totals_of(of_merchant)):
                suspects.add(user)
    return suspects


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
    return all(one is None or other is None or one == other for one, other in zip(stored, totals, strict=True))


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
    return f"{totals.seconds:,} s in {totals.sessions:,} sessions, from {totals.first_us} to {totals.last_us} µs"


def _given(own: UserSpans) -> str:
    return _shown(spans.pack_totals(spans.totals_of(own))) if own else "none"
