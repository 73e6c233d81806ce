"""One line for a request that somebody may want to know of: refused, failed, slow, or every one where so set."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from functions.core.routes import method_of

if TYPE_CHECKING:
    from functions.adapters.exchange import Exchange

LOGGER: Final = __name__

_logger = logging.getLogger(LOGGER)


def write(exchange: Exchange, route: str, status: int, duration_s: float) -> None:
    """Log a request; the line has no path, which may name a user, and no header."""
    method = method_of(exchange.scope["method"])
    fields: dict[str, object] = {
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(duration_s * 1000, 3),
    }
    if exchange.verdicts is not None:
        fields["events"] = {verdict: count for verdict, count in exchange.verdicts._asdict().items() if count}
    _logger.log(logging.WARNING if status >= 500 else logging.INFO, "%s %s %d", method, route, status, extra=fields)
