"""What the functions share of HTTP: bodies within limits, JSON replies, problem details, brokers."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from functions.adapters import metrics
from functions.core.errors import (
    FlyertimeError,
    MisconfiguredError,
    RequestRefusedError,
    UnavailableError,
    pause_after_s,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

logger = logging.getLogger(__name__)

PROBLEM_TYPE: Final = "application/problem+json"
NO_STORE: Final = {"cache-control": "no-store"}

SEND_WHOLE: Final = "flyertime.send_whole"
"""ASGI extension of our server: a function that sends a whole reply at once, or tells that it cannot."""


def headers_of(request: Request) -> dict[str, str]:
    """Return the request's headers by lower-case name; of one that is repeated, all its values (RFC 9110 §5.3)."""
    pairs = request.scope["headers"]
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
    if len(headers) < len(pairs):
        headers.clear()
        for name, value in pairs:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


class _Prepared(Response):
    """A reply whose headers are bytes already: a third of the cost of one that puts them together."""

    def __init__(self, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.status_code = status
        self.body = body
        self.raw_headers = [*headers] if status == 304 else [*headers, (b"content-length", b"%d" % len(body))]
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the reply (ASGI)."""
        at_once = scope.get("extensions", {}).get(SEND_WHOLE)
        if at_once is None or not at_once["send"](self.status_code, self.raw_headers, self.body):
            await super().__call__(scope, receive, send)


_MOST_DIGITS: Final = 9
"""Of seconds to wait: more than thirty years."""
_JSON: Final = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


def json_reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a reply with a JSON body."""
    return Response(
        msgspec.json.encode(value), status, media_type="application/json", headers={**NO_STORE, **(headers or {})}
    )


def json_bytes_reply(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a reply whose body is JSON already."""
    if not headers:
        return _Prepared(status, body, _JSON)
    return Response(body, status, media_type="application/json", headers={**NO_STORE, **headers})


def ready_reply(body: bytes, headers: Sequence[tuple[bytes, bytes]], status: int = 200) -> Response:
    """Return a reply all of which is bytes already, its headers too but for its length."""
    return _Prepared(status, body, headers)


def empty_reply(status: int = 204, headers: Mapping[str, str] | None = None) -> Response:
    """Return a reply without a body: what a broker takes for success."""
    return Response(status_code=status, headers=headers)


def problem_reply(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a refusal as problem details (RFC 9457); ``code`` is stable, ``detail`` is for people."""
    metrics.ERRORS.of(code).add()
    title = HTTPStatus(status).phrase  # as RFC 9457 §4.2.1 has it for this type
    problem = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}
    return Response(
        msgspec.json.encode(problem), status, media_type=PROBLEM_TYPE, headers={**NO_STORE, **(headers or {})}
    )


def method_not_allowed(allowed: str) -> Response:
    """Return a refusal that names the methods that would do."""
    return problem_reply(405, "method_not_allowed", f"use {allowed}", {"allow": allowed})


def wants_event_or_nothing(headers: Mapping[str, str]) -> bool:
    """Tell whether a Knative broker asks, which takes any text but a CloudEvent for a failed delivery."""
    return "reply" in preferences_of(headers)


def preferences_of(headers: Mapping[str, str]) -> frozenset[str]:
    """Return what the sender prefers (RFC 7240 §2): names, or ``name=value``, in lower case and without parameters."""
    preferences = headers.get("prefer")
    if preferences is None:
        return frozenset()
    # A value in quotes is the same as one without; none of those that we know has a comma.
    return frozenset(part.partition(";")[0].strip() for part in preferences.lower().replace('"', "").split(","))


def preferred_wait_s(headers: Mapping[str, str]) -> int:
    """Return N of ``Prefer: wait=N`` (RFC 7240 §4.3), 0 where it is not asked for or makes no sense.

    However large N is, it is a wish to wait: the caller holds it to what is waited at most.
    """
    for part in headers.get("prefer", "").lower().split(","):
        name, _, value = part.partition(";")[0].partition("=")
        if name.strip() == "wait":
            text = value.strip(' \t"')
            if not (text.isascii() and text.isdecimal()):
                return 0
            digits = text.lstrip("0")
            return int(digits or 0) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS
    return 0


async def answered(handle: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
    """Let a handler answer, and turn its errors into replies: the one table of errors and statuses."""
    try:
        return await handle(request)
    except RequestRefusedError as e:
        return problem_reply(e.status, e.code, e.message, e.headers)
    except UnavailableError as e:
        logger.warning("%s: %s", e.code, e.message)
        return problem_reply(503, e.code, e.message, {"retry-after": str(e.retry_after_s)})
    except MisconfiguredError as e:  # only the operator can mend it, and then the same request succeeds
        logger.error("%s: %s", e.code, e.message)  # noqa: TRY400  # the message says it all
        return problem_reply(
            503,
            e.code,
            "this function is not set up correctly; its log says more",
            {"retry-after": str(pause_after_s(e))},
        )
    except ClientDisconnect:  # nobody is there to be answered; nothing was taken
        return empty_reply(400)
    except FlyertimeError as e:
        logger.exception("%s", e.code)
        return problem_reply(500, e.code, e.message)
    except Exception:
        logger.exception("unexpected error")
        return problem_reply(500, "unexpected", "an error that nobody expected; the log has it")
