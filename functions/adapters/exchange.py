"""The request that is being answered: what its log lines and its spans carry. Filled in lazily."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol

from functions.core.trace_context import TraceContext, parse

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence


class Verdicts(Protocol):
    """Numbers by name, as a named tuple has them."""

    def _asdict(self) -> dict[str, int]: ...


class Exchange:
    """One request and what is known of it so far."""

    __slots__ = ("caller", "event_id", "route", "scope", "span", "started_s", "verdicts", "waits")

    def __init__(self, scope: MutableMapping[str, Any], started_s: float) -> None:
        self.scope = scope
        self.started_s = started_s
        self.event_id: str | None = None
        """Of its CloudEvent, where it has exactly one."""
        self.caller: str | None = None
        """Name of the key that it came with."""
        self.route: str | None = None
        """The template of its path, where the handler has found it out."""
        self.verdicts: Verdicts | None = None
        """Number of its events by verdict."""
        self.waits = False
        """Whether the sender asked us to take our time."""
        self.span: Any = None
        """Its span, where spans are recorded; see functions/adapters/tracing.py."""

    def trace(self) -> TraceContext | None:
        """Return our span where there is one, else what the caller sent, or its event in binary mode; None where none.

        So it is with spans: see functions/adapters/tracing.py.
        """
        if self.span is not None:
            own: TraceContext = self.span.trace_context()
            return own
        return parse(self.header(b"traceparent")) or parse(self.header(b"ce-traceparent"))

    def header(self, name: bytes) -> str | None:
        """Return a header of the request; None where it has none or several of them."""
        found: list[bytes] = [value for key, value in self.scope["headers"] if key == name]
        return found[0].decode("latin-1") if len(found) == 1 else None


current: Final[ContextVar[Exchange | None]] = ContextVar("exchange", default=None)
"""The server gives each request a context of its own, so this is only ever set."""


_joint: Final[ContextVar[Sequence[Exchange]]] = ContextVar("joint", default=())


def work_for(exchanges: Sequence[Exchange | None]) -> None:
    """Say that the current task works for these requests from now on; for several at once, log lines are of none."""
    current.set(exchanges[0] if len(exchanges) == 1 else None)
    _joint.set([each for each in exchanges if each is not None] if len(exchanges) > 1 else ())


def served() -> Sequence[Exchange]:
    """Return the requests that the current task works for."""
    exchange = current.get()
    return _joint.get() if exchange is None else (exchange,)


def trace() -> TraceContext | None:
    """Return where in which trace we are, in the first one's where we work for several; None where in none."""
    exchanges = served()
    return exchanges[0].trace() if exchanges else None


def name_caller(name: str) -> None:
    """Say by the name of whose key the current request came."""
    exchange = current.get()
    if exchange is not None:
        exchange.caller = name


def name_event(event_id: str | None) -> None:
    """Say of which CloudEvent the current request is, where it has exactly one."""
    exchange = current.get()
    if exchange is not None:
        exchange.event_id = event_id


def name_route(template: str) -> None:
    """Say which of the function's routes the current request takes."""
    exchange = current.get()
    if exchange is not None:
        exchange.route = template


def waits_by_wish() -> None:
    """Say that the sender of the current request wants it to take its time: it is not slow."""
    exchange = current.get()
    if exchange is not None:
        exchange.waits = True
