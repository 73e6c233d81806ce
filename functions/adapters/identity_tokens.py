"""Tokens of an identity provider (JWT, RFC 7519), checked against its published keys. PyJWT does the cryptography.

The keys are read when they are first needed, again every few minutes, and when a token names one that is not known, but
then not more often than every few seconds, so that made-up names make no load for the provider. Where the provider
does not answer, known keys go on for a day.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from functions.core.errors import MisconfiguredError, RequestRefusedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from functions.core.settings import Settings

logger = logging.getLogger(__name__)

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Asymmetric ones: with one of the others whoever knows the published key could make tokens."""
REFRESH_S: Final = 300.0
MIN_REFRESH_S: Final = 10.0
MAX_AGE_S: Final = 86_400.0
LEEWAY_S: Final = 30
TIMEOUT_S: Final = 5.0
MAX_TOKEN_BYTES: Final = 16_384

_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="flyertime", error="invalid_token"'}


class IdentityTokens:
    """The tokens of one provider."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare; nothing is read before the first token.

        Raises:
            MisconfiguredError: A setting is missing.
        """
        if not settings.oidc_audience:
            raise MisconfiguredError("bad_settings", "FLYERTIME_OIDC_AUDIENCE must be set with FLYERTIME_OIDC_ISSUER")
        self._issuer = settings.oidc_issuer or ""
        self._audience = settings.oidc_audience
        self._keys_url = settings.oidc_jwks_url
        self._clock = clock
        self._keys: dict[str | None, tuple[Any, str | None]] = {}
        self._read_at_s: float | None = None
        self._tried_at_s: float | None = None
        self._turn = asyncio.Lock()

    async def claims(self, token: str) -> dict[str, Any]:
        """Return what a token says, once it is found to be valid.

        Raises:
            RequestRefusedError: It is not (401); the message says in which way, and nothing of what it holds.
            UnavailableError: The provider's keys cannot be read.
        """
        import jwt  # noqa: PLC0415  # 0.1 s with cryptography, for those who have a provider

        try:
            header = jwt.get_unverified_header(token)
            algorithm, name = header.get("alg"), header.get("kid")
            if algorithm not in ALGORITHMS:
                raise _invalid(f"is signed in another way than {', '.join(ALGORITHMS)}")
            key, only_algorithm = await self._key(name)
            if only_algorithm not in {None, algorithm}:
                raise _invalid("is signed in another way than its key is for")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise _invalid("has expired") from None
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError):
            raise _invalid("is of another issuer, or meant for another audience") from None
        except jwt.MissingRequiredClaimError:
            raise _invalid("must have exp, iss and aud") from None
        except jwt.ImmatureSignatureError:
            raise _invalid("is not valid yet") from None
        except jwt.PyJWTError:
            raise _invalid("is not valid") from None
        return claims

    async def _key(self, name: str | None) -> tuple[Any, str | None]:
        """Return the provider's key of a name, and what it is for where that is said.

        Where a token names none, the only one.
        """
        async with self._turn:
            now_s = self._clock()
            if self._is_due(name, now_s):
                self._tried_at_s = now_s
                try:
                    self._keys = await self._read_keys()
                    self._read_at_s = now_s
                except UnavailableError as e:
                    if self._read_at_s is None or now_s - self._read_at_s > MAX_AGE_S:
                        raise
                    logger.warning("%s; those known go on", e.message)
        if self._read_at_s is None:
            raise UnavailableError("identity_provider", "the identity provider's keys cannot be read", retry_after_s=5)
        if name is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if name not in self._keys:
            raise _invalid("is signed with a key that its issuer does not publish")
        return self._keys[name]

    def _is_due(self, name: str | None, now_s: float) -> bool:
        if self._tried_at_s is None:
            return True
        if now_s - self._tried_at_s < MIN_REFRESH_S:
            return False
        return (name is not None and name not in self._keys) or now_s - (self._read_at_s or 0.0) >= REFRESH_S

    async def _read_keys(self) -> dict[str | None, tuple[Any, str | None]]:
        import httpx2  # noqa: PLC0415  # as with jwt

        try:
            async with httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=True) as client:
                url = self._keys_url
                if url is None:
                    where = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
                    url = (await client.get(where)).raise_for_status().json()["jwks_uri"]
                response = (await client.get(url)).raise_for_status()
                keys = {each.get("kid"): key for each in response.json()["keys"] if (key := _key_of(each)) is not None}
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, KeyError, TypeError) as e:
            raise UnavailableError(
                "identity_provider",
                f"the identity provider's keys cannot be read ({type(e).__name__})",
                retry_after_s=5,
            ) from e
        return keys


def _key_of(published: Mapping[str, Any]) -> tuple[Any, str | None] | None:
    """Return a published key, and the one algorithm that it is for where that is said.

    None where it is none for signatures, or of a kind that we do not know: others have their place in the list too.
    """
    import jwt  # noqa: PLC0415  # as above

    if published.get("kty") not in {"RSA", "EC", "OKP"} or published.get("use", "sig") != "sig":
        return None
    try:
        return jwt.PyJWK.from_dict(dict(published)).key, published.get("alg")
    except jwt.PyJWTError:
        return None


def _invalid(fault: str) -> RequestRefusedError:
    return RequestRefusedError("invalid_token", f"this token {fault}", status=401, headers=_CHALLENGE)
