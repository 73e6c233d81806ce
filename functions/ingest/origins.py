"""Who asks before sending: browsers (CORS preflight) and webhook senders (the CloudEvents handshake). Pure.

CORS is the Fetch standard's; the handshake is that of the CloudEvents specification for HTTP webhooks, section 4.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ANY: Final = "*"
_PREFLIGHT_S: Final = "600"
_SENT_HEADERS: Final = (
    "authorization, ce-id, ce-source, ce-specversion, ce-subject, ce-time, ce-type, content-encoding, content-type, "
    "idempotency-key, prefer, traceparent, tracestate"
)
_READ_HEADERS: Final = (
    "flyertime-accepted, flyertime-duplicate, flyertime-folded, flyertime-rejected, flyertime-retry, "
    "preference-applied, retry-after"
)
_EXTENSION: Final = re.compile(r"ce-[a-z0-9]{1,64}")


class Origins:
    """The origins that a setting names: apart by commas, ``*`` for every one, nothing for none."""

    def __init__(self, setting: str | None) -> None:
        self._named = frozenset(origin.strip().lower() for origin in (setting or "").split(",") if origin.strip())

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._named)

    def allow(self, origin: str) -> bool:
        """Tell whether an origin is among them."""
        return bool(origin) and (ANY in self._named or origin.lower() in self._named)

    def shown(self, origin: str) -> str:
        """Return what an origin that is allowed is told."""
        return ANY if ANY in self._named else origin


def cors_headers(origins: Origins, headers: Mapping[str, str]) -> dict[str, str]:
    """Return what a reply to a browser needs besides, so that its page may read it."""
    origin = headers.get("origin", "")
    varying = {"vary": "origin"}
    if not origins.allow(origin):
        return varying
    return {
        **varying,
        "access-control-allow-origin": origins.shown(origin),
        "access-control-expose-headers": _READ_HEADERS,
    }


def options_headers(browsers: Origins, webhooks: Origins, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that answer OPTIONS: what may be asked, and what is granted to who asks."""
    granted = {"allow": "POST, OPTIONS"}
    if browsers:
        granted |= cors_headers(browsers, headers)
        if "access-control-allow-origin" in granted and "access-control-request-method" in headers:
            granted |= {
                "access-control-allow-methods": "POST",
                "access-control-allow-headers": ", ".join([_SENT_HEADERS, *_extensions_asked_for(headers)]),
                "access-control-max-age": _PREFLIGHT_S,
            }
    sender = headers.get("webhook-request-origin", "")
    if webhooks.allow(sender):
        granted["webhook-allowed-origin"] = webhooks.shown(sender)
        granted["webhook-allowed-rate"] = ANY  # of requests; a write key's rate of events is another matter
    return granted


def _extensions_asked_for(headers: Mapping[str, str]) -> list[str]:
    """Return the headers that a page wants to send which are attributes of a CloudEvent that only it knows."""
    asked = headers.get("access-control-request-headers", "").lower().split(",")
    return sorted({name.strip() for name in asked if _EXTENSION.fullmatch(name.strip())} - {*_SENT_HEADERS.split(", ")})
