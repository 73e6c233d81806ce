"""A request for a report as a CloudEvent, for pipelines: what it asks, and the event that answers it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from functions.adapters.cloud_events import Received
from functions.core import event_types
from functions.core.errors import RequestRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functions.adapters.cloud_events import Refused

DEFAULT_ROWS: Final = 1000


class _Data(msgspec.Struct, forbid_unknown_fields=True):
    """The event's data; all of it may be left out."""

    merchant_id: str | None = None
    rows: bool = False
    query: dict[str, str | int | float] = {}  # msgspec makes a new one each time


class ReportRequest(NamedTuple):
    """What an event asks for."""

    event_id: str
    merchant: str | None
    rows: bool
    """Whether the rows are wanted, or only their summary and where they are."""
    parameters: dict[str, str]
    """Of the table, as in the query of its URL."""

    @property
    def path(self) -> str:
        """The table's path."""
        if self.merchant is None:
            return "/"
        # Of dots alone a client would make its own way up.
        return f"/merchants/{quote(self.merchant, safe='').replace('.', '%2E')}"

    @property
    def link(self) -> str:
        """The address of the rows, relative to this host."""
        return f"{self.path}?{urlencode(self.parameters)}" if self.parameters else self.path


def report_request(received: Sequence[Received | Refused]) -> ReportRequest:
    """Return what the one event of a request asks for.

    Raises:
        RequestRefusedError: It is none, or not one alone; the message says what would be right.
    """
    if len(received) != 1:
        raise RequestRefusedError("bad_event", "send one event in a request")
    event = received[0]
    if not isinstance(event, Received):
        faults = "; ".join(f"{fault.pointer or 'the event'}: {fault.reason}" for fault in event.faults[:20])
        raise RequestRefusedError("bad_event", faults)
    if event.type != event_types.REPORT_REQUESTED:
        raise RequestRefusedError("not_a_report_request", f"report takes events of type {event_types.REPORT_REQUESTED}")
    try:
        data = msgspec.convert(event.data or {}, _Data)
    except msgspec.ValidationError:
        raise RequestRefusedError(
            "bad_event",
            'data may have "merchant_id" (a text), "rows" (true or false) and "query" (an object, as a URL\'s query)',
        ) from None
    parameters = {name: str(value) for name, value in data.query.items()}
    if data.rows:
        parameters.setdefault("limit", str(DEFAULT_ROWS))
    return ReportRequest(event.id, data.merchant_id, data.rows, parameters)


def answer_data(
    request: ReportRequest, summary: Mapping[str, Any], page: bytes | None, freshness: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the data of the event that answers: the summary and where the rows are, or the rows themselves."""
    data: dict[str, Any] = {"merchant_id": request.merchant, "link": request.link, **freshness}
    if page is None:
        return {**data, "summary": {**summary}}
    return {**data, **msgspec.json.decode(page)}
