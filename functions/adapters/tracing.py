"""Spans by OpenTelemetry, where an OTLP endpoint is set by its standard variables; else nothing of it is imported.

A request is a server span, named by OpenTelemetry's conventions for HTTP; a trip to the store and an event sent are its
children. The caller is the ``traceparent`` header, which is the hop; an event's own ``traceparent`` attribute says
where the event began, perhaps long ago and in a batch with others, and becomes a link (CloudEvents' distributed tracing
extension). Only a CloudEvent in binary mode that comes without the header is its own hop.
"""

from __future__ import annotations

import atexit
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from functions.adapters import cloud_events
from functions.adapters import exchange as exchange_
from functions.core.routes import UNKNOWN
from functions.core.trace_context import TraceContext, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from functions.adapters.exchange import Exchange

logger = logging.getLogger(__name__)

FAREWELL_S: Final = 3.0
"""How long the end of a process waits for a collector to take the last spans."""
MAX_LINKS: Final = 32
"""Events of a batch whose beginnings a span names."""

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Tell whether the standard variables ask for spans."""
    return (
        any(environment.get(name) for name in _ENDPOINTS)
        and environment.get("OTEL_SDK_DISABLED", "").lower() != "true"
        and environment.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"
    )


class Span:
    """A span under way."""

    __slots__ = ("_span",)

    def __init__(self, span: Any) -> None:
        self._span = span

    @property
    def otel(self) -> Any:
        """The library's own span."""
        return self._span

    def trace_context(self) -> TraceContext:
        """Return what others are told of it."""
        context = self._span.get_span_context()
        return TraceContext(f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{context.trace_flags:02x}")

    def link(self, traceparents: Iterable[str]) -> None:
        """Link the span to where events began; a few of them, each once, and not to its own trace's caller."""
        if not self._span.is_recording():
            return
        own = self.trace_context().trace_id
        for text in sorted(set(traceparents))[:MAX_LINKS]:
            context = parse(text)
            if context is not None and context.trace_id != own:
                self._span.add_link(_span_context(context))

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes."""
        self._span.set_attributes(attributes)


class Tracing:
    """What makes spans in this process, and sends them."""

    def __init__(self, function: str, version: str) -> None:
        """Start, by the standard variables; nothing connects before there is a span to send.

        Args:
            function: Which function this is; ``OTEL_SERVICE_NAME`` may name it otherwise.
            version: Of flyertime.
        """
        from opentelemetry import trace  # noqa: PLC0415  # 30 ms, and only where it is wanted; as below
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        resource = Resource.create({"service.version": version})
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": f"flyertime-{function}"}))
        self._trace = trace
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("flyertime", version)
        self._closed = False
        atexit.register(self.close)

    def begin(self, exchange: Exchange) -> None:
        """Begin the span of a request."""
        caller = parse(exchange.header(b"traceparent")) or parse(exchange.header(b"ce-traceparent"))
        scope = exchange.scope
        attributes = {
            "http.request.method": scope["method"],
            "url.scheme": scope.get("scheme", "http"),
            "network.protocol.version": scope.get("http_version", "1.1"),
        }
        if (agent := exchange.header(b"user-agent")) is not None:
            attributes["user_agent.original"] = agent[:256]
        exchange.span = Span(
            self._tracer.start_span(
                scope["method"],
                self._parent(caller, exchange.header(b"tracestate")),
                kind=self._trace.SpanKind.SERVER,
                attributes=attributes,
            )
        )
        if (began := exchange.header(b"ce-traceparent")) is not None:
            exchange.span.link([began])

    def end(self, exchange: Exchange, method: str, route: str, status: int) -> None:
        """End it. The path is left out, since it may name a user; the route has what it says."""
        span = exchange.span.otel
        span.update_name(method if route == UNKNOWN else f"{method} {route}")
        attributes: dict[str, Any] = {"http.request.method": method, "http.response.status_code": status}
        if route != UNKNOWN:
            attributes["http.route"] = route
            if "{" not in route:  # then the path says no more than the route does
                attributes["url.path"] = route
        if exchange.event_id is not None:
            attributes["cloudevents.event_id"] = exchange.event_id
        if exchange.verdicts is not None:
            counts = exchange.verdicts._asdict().items()
            attributes |= {f"flyertime.events.{verdict}": count for verdict, count in counts}
        if status >= 500:
            attributes["error.type"] = str(status)
            span.set_status(self._trace.StatusCode.ERROR)
        span.set_attributes(attributes)
        span.end()

    @contextmanager
    def child(self, name: str, kind: str, attributes: Mapping[str, Any]) -> Iterator[Span]:
        """Have a span within that of the current request; of several, within the first and linked to the others."""
        exchanges = [each for each in exchange_.served() if each.span is not None]
        parent = self._trace.set_span_in_context(exchanges[0].span.otel) if exchanges else None
        links = [self._trace.Link(each.span.otel.get_span_context()) for each in exchanges[1 : MAX_LINKS + 1]]
        span = self._tracer.start_span(
            name, parent, kind=self._trace.SpanKind[kind], attributes=dict(attributes), links=links
        )
        try:
            yield Span(span)
        except BaseException as e:
            span.set_status(self._trace.StatusCode.ERROR)
            span.set_attribute("error.type", getattr(e, "code", type(e).__name__))
            raise
        finally:
            span.end()

    def close(self) -> None:
        """Send what is left, and wait for it no longer than `FAREWELL_S`."""
        if not self._closed:
            self._closed = True
            sending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
            sending.start()
            sending.join(FAREWELL_S)
            if sending.is_alive():
                logger.warning("the collector did not take the last spans within %g s", FAREWELL_S)

    def _parent(self, caller: TraceContext | None, state: str | None) -> Any:
        if caller is None:
            return None
        remote = self._trace.NonRecordingSpan(_span_context(caller, state))
        return self._trace.set_span_in_context(remote)


def _span_context(context: TraceContext, state: str | None = None) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState  # noqa: PLC0415  # see above

    return SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(context.flags, 16)),
        trace_state=TraceState.from_header([state]) if state else None,
    )


class _State:
    """The one tracing of this process, where there is one."""

    tracing: Tracing | None = None


def start(function: str, version: str, environment: Mapping[str, str]) -> None:
    """Make spans from now on, where the standard variables ask for them."""
    if _State.tracing is None and is_wanted(environment):
        _State.tracing = Tracing(function, version)


def current() -> Tracing | None:
    """Return what makes spans; None where nobody wants any."""
    return _State.tracing


def link_events(headers: Mapping[str, str], body: bytes) -> None:
    """Link the request's span to where its events say that they began."""
    if _State.tracing is not None:
        exchange = exchange_.current.get()
        if exchange is not None and exchange.span is not None:
            exchange.span.link(cloud_events.traceparents_of(headers.get("content-type", ""), body))


def stop() -> None:
    """Send what is left, and make no more."""
    tracing, _State.tracing = _State.tracing, None
    if tracing is not None:
        tracing.close()
