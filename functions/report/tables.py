"""Answers that are tables: of users, whole or in pages, of one user, and of merchants."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import msgspec

from functions.adapters import metrics
from functions.core.errors import RequestRefusedError
from functions.core.report_columns import USER_COLUMN
from functions.core.report_cursor import Position, read_cursor, write_cursor
from functions.core.report_query import KEY_PARAMETERS, Order
from functions.core.report_rows import joined
from functions.core.report_texts import JsonArray, TextEncoder
from functions.report.kept_pages import AHEAD_ROWS, Stretch
from functions.report.reading import first_rows, in_id_order, in_shards

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from functions.adapters.redis_report import ReportStore
    from functions.adapters.redis_state import StoreState
    from functions.core.report_columns import Column
    from functions.core.report_freshness import Freshness
    from functions.core.report_query import TableQuery
    from functions.core.report_rows import UserRows
    from functions.core.report_texts import TableEncoder
    from functions.report.kept_pages import KeptPages
    from functions.report.shard_texts import ShardTexts
    from functions.report.views import View

MAX_SORTED_ROWS: Final = 50_000
"""Of a table that is sorted by numbers and not asked for in pages."""


def order_of(query: TableQuery, view: View) -> Order | None:
    """Return the order of a table: pseudonyms never come in the order of what they stand for."""
    return Order("user_id") if query.order is None and view.pseudonyms is not None else query.order


def columns_of(query: TableQuery) -> list[Column]:
    """Return the columns that are asked for."""
    return [USER_COLUMN[name] for name in query.fields]


async def whole_table(
    store: ReportStore, state: StoreState, view: View, query: TableQuery, encoder: TableEncoder, texts: ShardTexts
) -> AsyncGenerator[bytes]:
    """Yield the bytes of a table of all users that are asked for.

    Raises:
        RequestRefusedError: There are too many to be sorted by a number at once.
    """
    order = order_of(query, view)
    if order is None and isinstance(encoder, TextEncoder):
        async with aclosing(texts.of(state, view, query, encoder)) as made:
            yield encoder.begin()
            async for text in made:
                yield text
                await asyncio.sleep(0)
            yield encoder.end()
        store.when_read(state.users)  # for the heap it makes no difference from where
        return
    if order is None:
        slices = in_shards(store, state, view, query.filters)
    elif order.by_id:
        slices = in_id_order(store, state, view, query.filters, descending=order.descending)
    else:
        slices = _sorted_by_number(store, state, view, query, order)
    yield encoder.begin()
    async with aclosing(slices) as read:
        async for rows in read:
            metrics.report_rows.add(len(rows))
            yield encoder.rows([rows.column(name) for name in query.fields])
            await asyncio.sleep(0)
    yield encoder.end()
    store.when_read(state.users)


async def _sorted_by_number(
    store: ReportStore, state: StoreState, view: View, query: TableQuery, order: Order
) -> AsyncGenerator[UserRows]:
    rows, _ = await first_rows(store, state, view, query.filters, order, MAX_SORTED_ROWS + 1)
    if len(rows) > MAX_SORTED_ROWS:
        raise RequestRefusedError(
            "sort_needs_limit",
            f"more than {MAX_SORTED_ROWS} rows are sorted by a number in pages only: add limit, or a filter",
        )
    yield rows


class Page:
    """One page of a table of users."""

    def __init__(self, rows: UserRows, after: str | None) -> None:
        self.rows = rows
        self.after = after
        """The cursor of the next page; None: there is none."""

    def next_url(self, path: str, parameters: Mapping[str, str]) -> str | None:
        """Return the address of the next page, relative to the host; the key is for the asker to add."""
        if self.after is None:
            return None
        kept = {name: value for name, value in parameters.items() if name not in {"after", *KEY_PARAMETERS}}
        return f"{path or '/'}?{urlencode({**kept, 'after': self.after})}"

    def encoded(self, query: TableQuery, encoder: TableEncoder) -> bytes:
        """Return the rows in a format."""
        metrics.report_rows.add(len(self.rows))
        rows = encoder.rows([self.rows.column(name) for name in query.fields]) if len(self.rows) else b""
        return b"".join((encoder.begin(), rows, encoder.end()))


async def page_of(
    store: ReportStore, state: StoreState, view: View, query: TableQuery, limit: int, kept: KeptPages
) -> Page:
    """Return the page that is asked for, of so many rows at most.

    Raises:
        RequestRefusedError: The cursor is none of this question.
    """
    question = f"{view.key()}|{query.cursor_key()}"
    secret = state.pipeline.encode()
    after = None if query.after is None else read_cursor(query.after, question, secret)
    wanted = limit + 1
    found = kept.find(question, _version_of(state), after, wanted)
    if found is None:
        stretch = await _stretch(store, state, view, query, wanted, after)
        store.when_read(state.users)
        found = stretch.rows, stretch.positions
        if len(stretch.rows) > wanted:
            kept.keep(question, stretch)
            found = stretch.rows.part(0, wanted), stretch.positions[:wanted]
    rows, positions = found
    if len(rows) < wanted:
        return Page(rows, None)
    return Page(rows.part(0, limit), write_cursor(positions[limit - 1], question, secret))


def _version_of(state: StoreState) -> object:
    return (state.pipeline, state.generation, *(shard.version for shard in state.shards))


async def _stretch(
    store: ReportStore, state: StoreState, view: View, query: TableQuery, wanted: int, after: Position | None
) -> Stretch:
    """Return the rows that are wanted, and some that come after them."""
    order = order_of(query, view)
    if order is not None:
        ahead = max(wanted, AHEAD_ROWS)
        rows, positions = await first_rows(store, state, view, query.filters, order, ahead, after)
        return Stretch(_version_of(state), after, rows, positions, whole=len(rows) < ahead)
    parts: list[UserRows] = []
    count = 0
    whole = False
    slices = in_shards(store, state, view, query.filters, None if after is None else after.user_id)
    async with aclosing(slices) as read:
        async for rows in read:
            parts.append(rows)
            count += len(rows)
            if count >= wanted:  # no further for those ahead: a filter may leave few, which are then far
                break
        else:
            whole = True
    rows = joined(parts)
    return Stretch(_version_of(state), after, rows, [Position(None, user_id) for user_id in rows.ids], whole)


def page_body(page: Page, query: TableQuery, encoder: TableEncoder, next_url: str | None, fresh: Freshness) -> bytes:
    """Return a page as a JSON object, in whose body all stands that is needed to go on."""
    shown = fresh.shown()
    return b'{"rows":%b,"next":%b,"complete_through":%b,"pending_events":%b}' % (
        page.encoded(query, encoder),
        msgspec.json.encode(next_url),
        msgspec.json.encode(shown["complete_through"]),
        msgspec.json.encode(shown["pending_events"]),
    )


@lru_cache(64)
def json_of_rows(fields: tuple[str, ...]) -> JsonArray:
    """Return what writes rows with these fields as JSON objects."""
    return JsonArray([USER_COLUMN[name] for name in fields])


def whole_rows(columns: Sequence[Sequence[Any]], encoder: TableEncoder) -> bytes:
    """Return a small table, given column by column, in a format."""
    return b"".join((encoder.begin(), encoder.rows(columns), encoder.end()))
