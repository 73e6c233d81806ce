"""Who may read: a read key or a token, by which a reader sees all merchants or one, and how often."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from functions.adapters.exchange import name_caller
from functions.adapters.identity_tokens import MAX_TOKEN_BYTES, IdentityTokens
from functions.core.access import fitting
from functions.core.errors import MisconfiguredError, RequestRefusedError
from functions.core.read_access import Reader, ReadKey, parse_read_keys, reader_of, token_of
from functions.core.token_bucket import TokenBuckets

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.core.settings import Settings

OFF: Final = "off"
_ANYBODY: Final = Reader("")
_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="flyertime"'}


class Gate:
    """Lets in who has a key or a token; everybody where that was asked for by name."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the keys.

        Raises:
            MisconfiguredError: There is neither a key nor a provider of tokens, and that was not asked for; or one
                of the settings cannot be read.
        """
        self._settings = settings
        self._clock = clock
        self._buckets = TokenBuckets()
        self._keys: tuple[ReadKey, ...] = ()
        self._tokens: IdentityTokens | None = None
        self._open = settings.read_auth == OFF
        if self._open:
            return
        try:
            self._keys = parse_read_keys(settings.read_keys or "")
        except ValueError as e:
            raise MisconfiguredError("bad_settings", f"FLYERTIME_READ_KEYS: {e}") from None
        if settings.oidc_issuer:
            self._tokens = IdentityTokens(settings)
        if not self._keys and self._tokens is None:
            raise MisconfiguredError(
                "no_read_keys",
                "who may read the report? Set FLYERTIME_READ_KEYS to what `flyertime keys new NAME --read` prints, or "
                "FLYERTIME_OIDC_ISSUER and FLYERTIME_OIDC_AUDIENCE, or FLYERTIME_READ_AUTH=off where something else "
                "keeps strangers out",
            )

    @property
    def may_bind(self) -> bool:
        """Whether some reader may be bound to a merchant, by a key or by what the provider's tokens say."""
        return self._tokens is not None or any(key.merchant is not None for key in self._keys)

    async def admit(self, authorization: str | None, key: str | None) -> Reader:
        """Return who asks.

        Args:
            authorization: The header of that name.
            key: The parameter of that name in the query.

        Raises:
            RequestRefusedError: Nobody who may read (401), anything here (403), or again so soon (429).
            UnavailableError: The identity provider's keys cannot be read.
        """
        reader = _ANYBODY if self._open else await self._known(token_of(authorization, key))
        if reader.name:
            name_caller(reader.name)
        rate_per_s = self._settings.read_rate_per_s if reader.rate_per_s is None else reader.rate_per_s
        if rate_per_s and (wait_s := self._buckets.take(f"{reader.merchant}|{reader.name}", rate_per_s, self._clock())):
            raise RequestRefusedError(
                "too_many_requests", f"at most {rate_per_s:g} requests a second with this key", status=429,
                headers={"retry-after": str(wait_s)},
            )  # fmt: skip
        return reader

    async def _known(self, token: str | None) -> Reader:
        if token is None:
            raise RequestRefusedError(
                "no_read_key",
                "send a read key: Authorization: Bearer ftr_…, or key=ftr_… in the query",
                status=401, headers=_CHALLENGE,
            )  # fmt: skip
        found = fitting(self._keys, token)
        if found is not None:
            return found.reader
        if self._tokens is not None and token.count(".") == 2 and len(token) <= MAX_TOKEN_BYTES:
            claims = await self._tokens.claims(token)
            return reader_of(claims, self._settings.oidc_merchant_claim, self._settings.oidc_all_scope)
        raise RequestRefusedError(
            "unknown_read_key", "this read key is not valid, or no longer", status=401, headers=_CHALLENGE
        )
