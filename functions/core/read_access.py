"""Who may read what: read keys, bound to a merchant or to none, and what a token of an identity provider allows. Pure.

A line of the setting is ``name:sha256``, followed by ``:merchant=ID`` (percent-encoded) where the key is bound to a
merchant, and ``:rate=N`` where it may ask N times a second rather than as often as the setting for all says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from functions.core.access import NAME, SHA256
from functions.core.errors import RequestRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

READ_PREFIX: Final = "ftr_"
"""Where read tokens begin, so that scanners for leaked secrets can know them."""

_RATE: Final = re.compile(r"\d{1,6}(?:\.\d{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks, and what that one may see."""

    name: str
    merchant: str | None = None
    """The one merchant that may be seen; None: all, and what is over all of them."""
    rate_per_s: float | None = None
    """Requests a second; None: what the setting for all says."""


@dataclass(frozen=True, slots=True)
class ReadKey:
    """One read key."""

    name: str
    token_sha256: str
    merchant: str | None = None
    rate_per_s: float | None = None

    @property
    def reader(self) -> Reader:
        """Whoever has it."""
        return Reader(self.name, self.merchant, self.rate_per_s)

    @property
    def line(self) -> str:
        """The line of the setting."""
        merchant = [] if self.merchant is None else [f"merchant={quote(self.merchant, safe='')}"]
        rate = [] if self.rate_per_s is None else [f"rate={self.rate_per_s:g}"]
        return ":".join([self.name, self.token_sha256, *merchant, *rate])


def parse_read_keys(text: str) -> tuple[ReadKey, ...]:
    """Return the keys that a setting describes.

    Raises:
        ValueError: Some line is wrong; the message names its number and says what would be right and repeats nothing of
            it, since it may be a token put there by mistake.
    """
    keys: list[ReadKey] = []
    for number, line in enumerate(text.split(), 1):
        name, token_sha256, *options = line.split(":") if ":" in line else (line, "")
        if not NAME.fullmatch(name) or not SHA256.fullmatch(token_sha256):
            raise ValueError(
                f"key {number} must be name:SHA-256 in 64 lower-case hex digits, as `flyertime keys` prints it"
            )
        given = dict(option.partition("=")[::2] for option in options)
        if len(given) < len(options) or not given.keys() <= {"merchant", "rate"}:
            raise ValueError(f"key {number} may go on with :merchant=ID and :rate=N, each once, and nothing else")
        if given.get("merchant") == "":
            raise ValueError(f"key {number} is bound to a merchant without a name")
        if "rate" in given and not (_RATE.fullmatch(given["rate"]) and float(given["rate"]) > 0):
            raise ValueError(f"key {number} must have requests a second after :rate=, as in 5 or 0.5")
        if any(name == key.name for key in keys):
            raise ValueError(f"key {number} has the name of an earlier one")
        keys.append(
            ReadKey(
                name,
                token_sha256,
                unquote(given["merchant"]) if "merchant" in given else None,
                float(given["rate"]) if "rate" in given else None,
            )
        )
    return tuple(keys)


def reader_of(claims: Mapping[str, Any], merchant_claim: str, all_scope: str) -> Reader:
    """Return whom a token's claims describe.

    Raises:
        RequestRefusedError: They allow nothing here (403).
    """
    name = str(claims.get("sub", ""))[:200]
    merchant = claims.get(merchant_claim)
    if isinstance(merchant, str) and merchant:
        return Reader(name, merchant)
    if merchant is None and all_scope in _scopes_of(claims):
        return Reader(name)
    raise RequestRefusedError(
        "nothing_to_read",
        f"this token names no merchant (one text, in its claim {merchant_claim}) and has no scope {all_scope}",
        status=403,
    )


def _scopes_of(claims: Mapping[str, Any]) -> set[str]:
    """Return scopes and roles: of OAuth (RFC 9068), and as Microsoft's and others' providers write them."""
    found: set[str] = set()
    for claim in ("scope", "scp", "roles"):
        value = claims.get(claim)
        if isinstance(value, str):
            found.update(value.split())
        elif isinstance(value, list):
            found.update(each for each in value if isinstance(each, str))
    return found


def token_of(authorization: str | None, key: str | None) -> str | None:
    """Return the token that a request carries; None where it has none.

    As ``Authorization: Bearer``, as the password of ``Basic`` for programs that know nothing else, or as ``key`` in the
    query for those that can only change that.

    Raises:
        RequestRefusedError: It carries two.
    """
    if authorization is None:
        return key or None
    if key is not None:
        raise RequestRefusedError("two_keys", "send the key as Authorization or as key in the query, not as both")
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip() or None
    if scheme.lower() == "basic":
        return _password_of(credentials.strip())
    return None


def _password_of(credentials: str) -> str | None:
    import base64  # noqa: PLC0415  # few send it
    import binascii  # noqa: PLC0415

    try:
        decoded = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return decoded.partition(":")[2] or None
