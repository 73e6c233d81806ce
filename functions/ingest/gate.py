"""Who may write: a bearer token that fits one of the write keys.

It comes in the ``Authorization`` header, or, from webhook senders that can set none, as ``access_token`` in the query:
the two ways that the CloudEvents specification for HTTP webhooks, section 3, wants a receiver to take.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from functions.adapters.exchange import name_caller
from functions.core.access import AccessKey, AccessKeys, parse_keys
from functions.core.errors import MisconfiguredError, RequestRefusedError
from functions.core.token_bucket import TokenBuckets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from functions.core.settings import Settings

OFF: Final = "off"
_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="flyertime"'}


class Gate:
    """Lets in who has a key; everybody where that was asked for by name."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the keys.

        Raises:
            MisconfiguredError: There are none, and they were not switched off; or some key cannot be read.
        """
        self._clock = clock
        self._buckets = TokenBuckets()
        self._keys: AccessKeys | None = None
        if settings.write_auth == OFF:
            return
        try:
            self._keys = parse_keys(settings.write_keys or "")
        except ValueError as e:
            raise MisconfiguredError("bad_settings", f"FLYERTIME_WRITE_KEYS: {e}") from None
        if not self._keys.keys:
            raise MisconfiguredError(
                "no_write_keys",
                "who may write? Set FLYERTIME_WRITE_KEYS to what `flyertime keys new NAME` prints, or "
                "FLYERTIME_WRITE_AUTH=off where something else keeps strangers out",
            )

    def admit(self, headers: Mapping[str, str], query: bytes) -> AccessKey | None:
        """Return the sender's key; None where everybody may write.

        Args:
            headers: By lower-case name.
            query: What stands behind the path.

        Raises:
            RequestRefusedError: There is no key in the request, or none that is valid (401).
        """
        if self._keys is None:
            return None
        token = token_of(headers, query)
        if token is None:
            raise RequestRefusedError(
                "no_write_key", "send a write key: Authorization: Bearer ftw_…", status=401, headers=_CHALLENGE
            )
        key = self._keys.find(token)
        if key is None:
            raise RequestRefusedError(
                "unknown_write_key", "this write key is not valid, or no longer", status=401, headers=_CHALLENGE
            )
        name_caller(key.name)
        return key

    def count(self, key: AccessKey | None, events: int) -> None:
        """Count a sender's events against the rate of its key, if that has one.

        Each process counts for itself: a count that all share would cost every request a trip to the store, and a
        sender that has lost its mind, which is what the rate is for, is stopped by either.

        Raises:
            RequestRefusedError: They are too many for now (429).
        """
        if key is None or key.rate_per_s is None:
            return
        wait_s = self._buckets.take(key.name, key.rate_per_s, self._clock(), count=events, burst=key.burst)
        if wait_s:
            raise RequestRefusedError(
                "too_fast", f"this write key may send {key.rate_per_s:g} events a second; nothing of this was taken",
                status=429, headers={"retry-after": str(wait_s)},
            )  # fmt: skip


def token_of(headers: Mapping[str, str], query: bytes) -> str | None:
    """Return the bearer token of a request; None where it has none."""
    if query and "authorization" not in headers:
        found = parse_qs(query.decode("latin-1")).get("access_token", ())
        return found[0] if len(found) == 1 else None
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
