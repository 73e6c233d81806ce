"""The page over HTTP: its files for everybody, since they hold no numbers, and its charts for those who may read.

The page asks for the numbers as any other client does, with the reader's key in a header. A chart is drawn from the
numbers that the page sends back, so nothing is read or computed twice for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from starlette.responses import Response

from functions.adapters import bodies, web
from functions.core.errors import RequestRefusedError
from functions.core.negotiation import preferred_coding
from functions.core.report import matches
from functions.report.page import charts
from functions.report.page.files import HOME, page_files, version

if TYPE_CHECKING:
    from starlette.requests import Request

PREFIX: Final = "/page/"
TEMPLATE: Final = "/page/{name}"
CHART: Final = "chart"
CHART_PATH: Final = PREFIX + CHART
"""For readers alone, as the numbers are, and no oftener: drawing costs more than most answers."""
MAX_CHART_BYTES: Final = 65_536
MAX_BARS: Final = 100
BODY_TIMEOUT_S: Final = 10.0

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types flyertime-chart"
)
_SECURITY: Final = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_FOR_GOOD: Final = "public, max-age=31536000, immutable"

_Text = Annotated[str, msgspec.Meta(max_length=2000)]


class _Bar(msgspec.Struct, frozen=True):
    label: _Text
    value: Annotated[float, msgspec.Meta(ge=0, le=1e15)]
    words: _Text


class _Chart(msgspec.Struct, frozen=True):
    kind: Literal["columns", "rows"]
    title: _Text
    width_px: Annotated[int, msgspec.Meta(ge=charts.MIN_WIDTH_PX, le=charts.MAX_WIDTH_PX)]
    height_px: Annotated[int, msgspec.Meta(ge=charts.MIN_HEIGHT_PX, le=charts.MAX_HEIGHT_PX)]
    """Of columns; rows take what they need."""
    bars: Annotated[list[_Bar], msgspec.Meta(max_length=MAX_BARS)]


def home(request: Request) -> Response:
    """Answer a browser that asks for the report: with the page, which then asks for the numbers."""
    return _file(request, HOME, vary="accept, accept-encoding")


async def reply(request: Request, name: str) -> Response:
    """Answer for what lies below the page's prefix.

    Raises:
        RequestRefusedError: A chart is asked for in a way that has no meaning.
    """
    if name == CHART:
        if request.method != "POST":
            return web.method_not_allowed("POST")
        return _drawn(await bodies.read_body(request, MAX_CHART_BYTES, BODY_TIMEOUT_S))
    if request.method not in {"GET", "HEAD"}:
        return web.method_not_allowed("GET")
    if name not in page_files() or name == HOME:
        return web.problem_reply(404, "no_such_path", "the page has no such file")
    return _file(request, name, vary="accept-encoding")


def _file(request: Request, name: str, *, vary: str) -> Response:
    file = page_files()[name]
    current = name != HOME and request.query_params.get("v") == version()
    packed = preferred_coding(request.headers.get("accept-encoding"), ("gzip",)) is not None
    etag = file.gzipped_etag if packed else file.etag  # a strong tag is of the bytes that are sent
    headers = {**_SECURITY, "etag": etag, "vary": vary, "cache-control": _FOR_GOOD if current else "no-cache"}
    condition = request.headers.get("if-none-match")
    if condition and matches(etag, condition):
        return Response(status_code=304, headers=headers)
    if packed:
        return Response(file.gzipped, media_type=file.media_type, headers={**headers, "content-encoding": "gzip"})
    return Response(file.plain, media_type=file.media_type, headers=headers)


def _drawn(body: bytes) -> Response:
    try:
        wanted = msgspec.json.decode(body, type=_Chart)
    except msgspec.DecodeError as e:
        raise RequestRefusedError("bad_chart", f"a chart is not described so: {e}") from None
    bars = [charts.Bar(bar.label, bar.value, bar.words) for bar in wanted.bars]
    if wanted.kind == "columns":
        picture = charts.columns(wanted.title, bars, wanted.width_px, wanted.height_px)
    else:
        picture = charts.rows(wanted.title, bars, wanted.width_px)
    return Response(picture, media_type="image/svg+xml", headers={**_SECURITY, **web.NO_STORE})
