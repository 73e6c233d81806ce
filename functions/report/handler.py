"""The use case: answer each question about the averages, and with nothing at all where the asker has the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import msgspec
from starlette.responses import Response

from functions.adapters import cloud_events, web
from functions.adapters.bodies import read_body
from functions.adapters.exchange import name_event, name_route
from functions.adapters.redis_summaries import SummaryStore
from functions.core import event_types
from functions.core.errors import RequestRefusedError
from functions.core.report import etag_of, matches, row_of
from functions.core.report_columns import DEFAULT_FIELDS, MERCHANT_COLUMNS
from functions.core.report_freshness import freshness_of
from functions.core.report_query import EVENT_PARAMETERS, KEY_PARAMETERS, parameters_of, table_query
from functions.core.report_rows import rows_of_users
from functions.report.asked import Asked
from functions.report.events import answer_data, report_request
from functions.report.formats import JSON, wants_page
from functions.report.gate import Gate
from functions.report.kept_pages import KeptPages
from functions.report.kernels import Kernels
from functions.report.openapi import description_text
from functions.report.page import page as people_page
from functions.report.pseudonym_index import PseudonymIndex
from functions.report.replies import Standing
from functions.report.routes import Answer, route_of
from functions.report.shard_texts import ShardTexts
from functions.report.summaries import Summaries
from functions.report.tables import columns_of, json_of_rows, page_body, page_of, whole_rows, whole_table
from functions.report.tidying import Tidying
from functions.report.views import Views
from functions.report.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from starlette.requests import Request

    from functions.adapters.redis_state import StoreState
    from functions.adapters.redis_value import AskedValue
    from functions.core.read_access import Reader
    from functions.core.settings import Settings
    from functions.report.views import View

_READ: Final = {"GET", "HEAD"}
_MOST_PARAMETERS: Final = 32


class ReportHandler:
    """Answers who asks for the report; keeps connections, and what is made of unchanged shards."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._gate = Gate(settings)
        self._views = Views(settings, may_be_bound=self._gate.may_bind)
        self._store = SummaryStore(settings)
        self._tidying = Tidying(self._store)
        self._kernels = Kernels()
        self._summaries = Summaries(self._store, self._kernels)
        self._waiting = Waiting(settings, self._store)
        self._texts = ShardTexts(self._store, self._kernels)
        self._kept_pages = KeptPages()
        self._pseudonyms = PseudonymIndex(self._store)
        self._standing: tuple[bool, Standing] | None = None
        self._answers = {
            Answer.USERS: self._users,
            Answer.USER: self._user,
            Answer.MERCHANTS: self._merchants,
            Answer.SUMMARY: self._summary,
        }

    async def ready(self) -> None:
        """Return when the store answers and fits the settings."""
        await self._store.ready()

    async def warm(self) -> None:
        """Connect, and have imported what so many users need."""
        self._kernels.prepare((await self._store.state()).users)

    async def close(self) -> None:
        """Close the connections."""
        await self._waiting.close()
        await self._store.close()

    async def handle(self, request: Request) -> Response:
        """Answer a request by its path."""
        # The raw path, since a user id may hold a slash, sent as %2F.
        scope = request.scope
        raw_path: bytes = scope["raw_path"] if "raw_path" in scope else request.url.path.encode()
        path = raw_path.decode("ascii", "replace").partition("?")[0]
        if path.startswith(people_page.PREFIX):
            if path == people_page.CHART_PATH and request.method == "POST":
                await self._admitted(request, _pairs_of(request))
            return await people_page.reply(request, path.removeprefix(people_page.PREFIX))
        if request.method == "POST" and path in {"", "/"}:
            return await self._event(request)
        if request.method not in _READ:
            return web.method_not_allowed("GET, HEAD, POST" if path in {"", "/"} else "GET, HEAD")
        found = route_of(path)
        if found is None:
            return web.problem_reply(
                404, "no_such_path",
                "ask GET / for all users, /users/{id} for one, /merchants, /merchants/{id}, /summary or /openapi.json",
            )  # fmt: skip
        route, parts = found
        name_route(route.template)
        if path in {"", "/"} and not request.scope["query_string"] and wants_page(request.headers.get("accept")):
            return people_page.home(request)
        pairs = _pairs_of(request)
        headers = web.headers_of(request)
        if route.answer is Answer.DESCRIPTION:
            parameters_of(pairs, route.parameters)
            return _description(request)
        # Who asks comes first: a stranger learns nothing of what there is, or of what may be asked.
        reader = await self._gate.admit(headers.get("authorization"), _key_of(pairs))
        view = self._views.of(reader, parts.get("merchant_id"))
        early: AskedValue | None = None
        if route.answer is Answer.USER and view.pseudonyms is None and "prefer" not in headers:
            early = self._store.ask_for_value(parts["user_id"], view.merchant)  # which works while we look at the rest
        try:
            parameters = parameters_of(pairs, route.parameters)
            asked = Asked(request, headers, path, route, parts, parameters, view, self._settings.reader_stall_s)
            asked.early = early
            if "prefer" in headers:
                asked.waited = await self._waiting.wait(headers)
            return await self._answers[route.answer](asked)
        finally:
            if early is not None:
                early.leave()

    async def _admitted(self, request: Request, pairs: Sequence[tuple[str, str]]) -> Reader:
        return await self._gate.admit(request.headers.get("authorization"), _key_of(pairs))

    async def _event(self, request: Request) -> Response:
        """Answer a request for a report that comes as a CloudEvent with another one."""
        pairs = _pairs_of(request)
        reader = await self._admitted(request, pairs)
        parameters_of(pairs, KEY_PARAMETERS)
        body = await read_body(request, self._settings.max_body_bytes, self._settings.body_timeout_s)
        wanted = report_request(cloud_events.decode(request.headers, body))
        name_event(wanted.event_id)
        view = self._views.of(reader, wanted.merchant)
        query = table_query(parameters_of(wanted.parameters.items(), EVENT_PARAMETERS))
        waited = await self._waiting.wait(web.headers_of(request))
        state = await self._store.state(view.merchant)
        standing = self._standing_of(state, view)
        _check_merchant(view, standing, waited)
        fresh = standing.fresh
        if wanted.rows and query.limit is not None:
            page = await page_of(self._store, state, view, query, query.limit, self._kept_pages)
            next_url = page.next_url(wanted.path, wanted.parameters)
            rows = page_body(page, query, JSON.encoder(columns_of(query)), next_url, fresh)
            data = answer_data(wanted, {}, rows, fresh.shown())
        else:
            summary = await self._summaries.of(state, view)
            data = answer_data(wanted, summary.shown(view.least_users), None, fresh.shown())
        headers, event = cloud_events.new_event(
            event_types.REPORT_ANSWERED,
            f"/flyertime/{self._settings.namespace}/report",
            data,
            event_id=f"{wanted.event_id}-answered",
        )
        return Response(event, headers={**web.NO_STORE, **fresh.headers(), **waited, **headers})

    async def _read_state(self, asked: Asked, *, merchants: bool = False) -> None:
        self._stand(asked, await self._store.state(asked.view.merchant, merchants=merchants))

    def _stand(self, asked: Asked, state: StoreState) -> None:
        asked.standing = self._standing_of(state, asked.view)
        self._kernels.prepare(asked.standing.users)
        _check_merchant(asked.view, asked.standing, asked.waited)

    def _standing_of(self, state: StoreState, view: View) -> Standing:
        known = self._standing
        if known is None or known[1].state is not state or known[0] != view.bound:
            fresh = freshness_of(state.ledgers, state.last_run, self._settings.max_age_s)
            known = self._standing = view.bound, Standing(state, fresh.for_one_merchant() if view.bound else fresh)
        return known[1]

    async def _users(self, asked: Asked) -> Response:
        query = table_query(asked.parameters)
        await self._read_state(asked)
        state, view = asked.state, asked.view
        versions: list[object] = [shard.version for shard in state.shards]
        if query.limit is not None:
            versions.append(asked.fresh.shown())
        etag = asked.tag(query.key(), versions)
        if known := asked.known(etag):
            return known
        encoder = asked.format.encoder(columns_of(query))
        if query.limit is None:
            return await asked.streamed(whole_table(self._store, state, view, query, encoder, self._texts), etag)
        page = await page_of(self._store, state, view, query, query.limit, self._kept_pages)
        next_url = page.next_url(asked.path, asked.parameters)
        headers = {} if next_url is None else {"link": f'<{next_url}>; rel="next"'}
        if asked.format is JSON:
            body = page_body(page, query, encoder, next_url, asked.fresh)
        else:
            body = page.encoded(query, encoder)
        return await asked.sent(body, etag, headers)

    async def _user(self, asked: Asked) -> Response:
        query = table_query(asked.parameters)
        user_id = asked.parts["user_id"].encode()
        value = await self._value_of_user(asked, asked.parts["user_id"])
        row = None if value is None else row_of(user_id, value)
        if row is None or value is None:
            detail = "this user has no two events on one flyer in the report"
            # Who may be still to come.
            return web.problem_reply(404, "no_such_user", detail, {**asked.fresh.headers(), **asked.waited})
        if asked.format is JSON and query.fields == DEFAULT_FIELDS:
            body = msgspec.json.encode(row)
        else:
            rows = rows_of_users([user_id], [value])
            columns = [rows.column(name) for name in query.fields]
            if asked.format is JSON:
                body = json_of_rows(query.fields).text(columns)  # the object alone
            else:
                body = whole_rows(columns, asked.format.encoder(columns_of(query)))
        return await asked.sent(body, asked.tag_of(body))

    async def _value_of_user(self, asked: Asked, user_id: str) -> bytes | None:
        merchant = asked.view.merchant
        if asked.view.pseudonyms is not None:
            await self._read_state(asked)
            found = await self._pseudonyms.user_of(user_id, asked.state, asked.view)
            return None if found is None else await self._store.value_of(found, merchant)
        # Of this answer only the headers hang on the books, and those of before promise less, never more.
        if asked.early is not None:
            self._stand(asked, asked.early.state)
            return await self._store.value_of(user_id, merchant, asked.early)
        state, value = await self._store.state_and_value(user_id, merchant)
        self._stand(asked, state)
        return value

    async def _merchants(self, asked: Asked) -> Response:
        await self._read_state(asked, merchants=True)
        only = asked.view.merchant
        versions = [
            sorted(held.items()) if only is None else [held.get(only, 0)] for held in asked.state.merchants
        ]  # fmt: skip
        etag = asked.tag(str(asked.view.least_users), versions)
        if known := asked.known(etag):
            return known
        return await asked.streamed(self._merchant_rows(asked), etag)

    async def _merchant_rows(self, asked: Asked) -> AsyncGenerator[bytes]:
        encoder = asked.format.encoder(MERCHANT_COLUMNS)
        yield encoder.begin()
        there = {name for held in asked.state.merchants for name in held}
        for merchant in sorted(there if asked.view.merchant is None else there & {asked.view.merchant}):
            total = await self._summaries.of_merchant(asked.state, merchant)
            if total.has_fewer_than(asked.view.least_users):
                yield encoder.rows([(merchant.encode(),), *[(None,)] * (len(MERCHANT_COLUMNS) - 1)])
            elif total.users:
                row = (
                    merchant.encode(), total.users, total.sessions, total.seconds, total.hours_per_session(),
                    *total.opens,
                )  # fmt: skip
                yield encoder.rows([(value,) for value in row])
        yield encoder.end()

    async def _summary(self, asked: Asked) -> Response:
        await self._read_state(asked)
        fresh = asked.fresh.shown()
        ledgers = asked.state.ledgers
        books = {
            "accepted": sum(ledger.accepted for ledger in ledgers),
            "duplicate": sum(ledger.duplicate for ledger in ledgers),
            "folded": sum(ledger.folded for ledger in ledgers),
            "erased": sum(ledger.erased for ledger in ledgers),
            "pending": sum(ledger.pending for ledger in ledgers),
        }
        shown_books = None if asked.view.bound else books
        versions = [*(shard.version for shard in asked.state.shards), fresh, shown_books]
        etag = asked.tag(str(asked.view.least_users), versions)
        if known := asked.known(etag):
            return known
        summary = await self._summaries.of(asked.state, asked.view)
        body = msgspec.json.encode({**summary.shown(asked.view.least_users), "freshness": fresh, "ledger": shown_books})
        return await asked.sent(body, etag)


def _check_merchant(view: View, standing: Standing, waited: Mapping[str, str]) -> None:
    """Refuse a merchant that is not there; to its own reader it is an empty one, which is still to come.

    Raises:
        RequestRefusedError: It is not (404).
    """
    if view.merchant is not None and not view.bound and not standing.users:
        raise RequestRefusedError(
            "no_such_merchant", "this merchant has no flyer in the report", status=404,
            headers={**standing.fresh.headers(), **waited},
        )  # fmt: skip


def _description(request: Request) -> Response:
    etag = etag_of(description_text().decode(), "openapi")
    headers = {"etag": etag, "cache-control": "no-cache"}
    condition = request.headers.get("if-none-match")
    if condition and matches(etag, condition):
        return Response(status_code=304, headers=headers)
    return Response(description_text(), media_type="application/json", headers=headers)


def _key_of(pairs: Sequence[tuple[str, str]]) -> str | None:
    return next((value for name, value in pairs if name == "key"), None)


def _pairs_of(request: Request) -> list[tuple[str, str]]:
    """Return the query's names and values.

    Raises:
        RequestRefusedError: It is no query of UTF-8, or a very long one.
    """
    text = request.scope["query_string"].decode("latin-1")
    if not text:
        return []
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise RequestRefusedError("bad_query", "the query must be a few name=value, percent-encoded UTF-8") from None
