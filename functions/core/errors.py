"""Errors whose type says what the caller should do: fix it, retry, or call the operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class FlyertimeError(Exception):
    """The root of every error that flyertime raises on purpose.

    ``code`` is stable and has no spaces: it appears in replies, logs and metrics.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RequestRefusedError(FlyertimeError):
    """The request as a whole cannot be taken; sending it again unchanged will not help (4xx)."""

    def __init__(self, code: str, message: str, *, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code, message)
        self.status = status
        self.headers = headers
        """Of the reply, where the protocol asks for some."""


class UnavailableError(FlyertimeError):
    """Something outside did not answer in time; the same request may succeed later (503)."""

    def __init__(self, code: str, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(code, message)
        self.retry_after_s = retry_after_s


class MisconfiguredError(FlyertimeError):
    """A setting is wrong or does not fit the store; only the operator can mend it."""


OPERATOR_PAUSE_S: Final = 60
"""Seconds to wait for an operator, who has to mend something first."""


def pause_after_s(error: FlyertimeError) -> int:
    """Return how many seconds to wait after an error before the same is tried again."""
    return error.retry_after_s if isinstance(error, UnavailableError) else OPERATOR_PAUSE_S


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one event: which field, what was found, what would be right.

    ``pointer`` is a JSON pointer (RFC 6901) into the event's data, or into the CloudEvent where it begins
    with ``/ce``; the empty pointer means the event as a whole.
    """

    code: str
    pointer: str
    reason: str
