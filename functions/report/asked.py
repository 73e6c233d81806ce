"""One request for the report, once it is known who asks for what: which format, which ETag, which headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from functions.adapters.compression import CODINGS
from functions.core.negotiation import preferred_coding
from functions.core.report import etag_of
from functions.core.report_query import format_of
from functions.report.formats import FORMATS, JSON, format_for
from functions.report.replies import Replies, Standing, encoded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from functions.adapters.redis_state import StoreState
    from functions.adapters.redis_value import AskedValue
    from functions.core.report_freshness import Freshness
    from functions.report.routes import Route
    from functions.report.views import View

_TABLES: Final = tuple(FORMATS.values())


class Asked:
    """One request, and what its answer is made from."""

    def __init__(
        self,
        request: Request,
        headers: Mapping[str, str],
        path: str,
        route: Route,
        parts: dict[str, str],
        parameters: dict[str, str],
        view: View,
        stall_s: float,
    ) -> None:
        self.path = path
        self.route = route
        self.parts = parts
        self.parameters = parameters
        self.view = view
        self.format = format_for(
            headers.get("accept"), format_of(self.parameters), _TABLES if route.has_formats else (JSON,)
        )
        self._coding = (
            None if self.format.packs_itself else preferred_coding(headers.get("accept-encoding"), CODINGS)
        )  # fmt: skip
        condition = headers.get("if-none-match")
        self._replies = Replies(request.method, condition, self._coding, self.format.media_type, stall_s)
        self.waited: dict[str, str] = {}
        """What the reply says of having waited."""
        self.early: AskedValue | None = None
        """What was asked for ahead."""
        self.standing: Standing

    @property
    def state(self) -> StoreState:
        """How the store stood."""
        return self.standing.state

    @property
    def fresh(self) -> Freshness:
        """How fresh the answer is."""
        return self.standing.fresh

    def tag(self, question: str, versions: Sequence[object]) -> str:
        """Return the ETag of the answer to a question, made from the shards at these versions."""
        state = self.standing.state
        key = f"{self.route.name}|{self.view.key()}|{question}|{state.pipeline}|{state.generation}|{versions}"
        return etag_of(key, f"{self.format.name}-{self._coding or 'plain'}")

    def tag_of(self, body: bytes) -> str:
        """Return the ETag of an answer that is there, for this view alone."""
        told = b"%b|%b" % (self.view.key().encode("utf-8", "surrogatepass"), body)
        return etag_of(told, f"{self.format.name}-{self._coding or 'plain'}")

    def known(self, etag: str) -> Response | None:
        """Return the 304 for an asker who has this representation already."""
        return self._replies.known(etag, self._headers())

    async def sent(self, body: bytes, etag: str, headers: Mapping[str, str] | None = None) -> Response:
        """Return a reply whose body is there."""
        return await self._replies.whole(body, etag, self._headers(headers))

    async def streamed(self, pieces: AsyncGenerator[bytes], etag: str) -> Response:
        """Return a reply whose body is still to be made."""
        return await self._replies.streamed(pieces, etag, self._headers())

    def _headers(self, more: Mapping[str, str] | None = None) -> Sequence[tuple[bytes, bytes]]:
        if not self.waited and not more:
            return self.standing.headers
        return [*self.standing.headers, *encoded({**self.waited, **(more or {})})]
