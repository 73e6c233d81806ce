"""Access keys: who may write, told by a token of which only the hash is kept.

A line of the setting is ``name:sha256``, then ``:rate=N`` where it may send N events a second, ``:burst=M`` where M of
them may come at once, and last ``:source=SOURCE`` where it is bound to a source; lines stand apart by white space.
Several may be valid at once, so that a key can be changed without a gap: add the new line, let the senders change, take
the old one out. Tokens are long and random, so a plain SHA-256 is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

WRITE_PREFIX: Final = "ftw_"
"""Where write tokens begin, so that scanners for leaked secrets can know them."""
MAX_TOKEN_CHARACTERS: Final = 512

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SHA256: Final = re.compile(r"[0-9a-f]{64}")
RATE: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class AccessKey:
    """One key."""

    name: str
    token_sha256: str
    source: str | None = None
    """The CloudEvents source that its events must have, or below which theirs must lie; None: any."""
    rate_per_s: float | None = None
    """Events a second; None: any number."""
    burst: int | None = None
    """Events that may come at once after a pause; None: what the rate gives in ten seconds."""

    def may_send(self, source: str) -> bool:
        """Tell whether events of a source may come with this key."""
        bound = self.source
        return bound is None or source == bound or source.startswith(bound if bound.endswith("/") else f"{bound}/")

    @property
    def line(self) -> str:
        """The line of the setting."""
        options = {"rate": self.rate_per_s, "burst": self.burst, "source": self.source}
        given = [f"{name}={_plain(value)}" for name, value in options.items() if value is not None]
        return ":".join([self.name, self.token_sha256, *given])


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """All keys that are valid now."""

    keys: Sequence[AccessKey]

    def find(self, token: str) -> AccessKey | None:
        """Return the key of a token; how long that takes tells nothing of the hashes."""
        return fitting(self.keys, token)


class _Hashed(Protocol):
    @property
    def token_sha256(self) -> str: ...


_Key = TypeVar("_Key", bound=_Hashed)


def fitting(keys: Sequence[_Key], token: str) -> _Key | None:
    """Return the key of a token; how long that takes tells nothing of the hashes."""
    if len(token) > MAX_TOKEN_CHARACTERS:
        return None
    digest = sha256_of(token)
    found = None
    for key in keys:
        if hmac.compare_digest(key.token_sha256, digest):
            found = key
    return found


def sha256_of(token: str) -> str:
    """Return the hash that is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def parse_keys(text: str) -> AccessKeys:
    """Return the keys that a setting describes.

    Raises:
        ValueError: Some line is wrong; the message names its number and says what would be right and repeats nothing of
            it, since it may be a token put there by mistake.
    """
    keys: list[AccessKey] = []
    for number, line in enumerate(text.split(), 1):
        name, _, rest = line.partition(":")
        token_sha256, _, options = rest.partition(":")
        if not NAME.fullmatch(name) or not SHA256.fullmatch(token_sha256):
            raise ValueError(
                f"key {number} must be name:SHA-256 in 64 lower-case hex digits, as `flyertime keys` prints it"
            )
        given = _options_of(options, number)
        if any(name == key.name for key in keys):
            raise ValueError(f"key {number} has the name of an earlier one")
        rate, burst = given.get("rate"), given.get("burst")
        keys.append(
            AccessKey(
                name,
                token_sha256,
                given.get("source"),
                None if rate is None else float(rate),
                None if burst is None else int(burst),
            )
        )
    return AccessKeys(tuple(keys))


def _options_of(text: str, number: int) -> dict[str, str]:
    """Return what follows the hash; the source comes last, since it may hold colons."""
    given: dict[str, str] = {}
    while text and not text.startswith("source="):
        option, _, text = text.partition(":")
        name, _, value = option.partition("=")
        if name in given or name not in {"rate", "burst"}:
            raise ValueError(
                f"key {number} may go on with :rate=N, :burst=M and, last, :source=SOURCE, and nothing else"
            )
        given[name] = value
    if text:
        given["source"] = text.removeprefix("source=")
        if not given["source"]:
            raise ValueError(f"key {number} is bound to a source without a name after :source=")
    if "rate" in given and not (RATE.fullmatch(given["rate"]) and float(given["rate"]) > 0):
        raise ValueError(f"key {number} must have events a second after :rate=, as in 100 or 0.5")
    if "burst" in given and not (re.fullmatch(r"[1-9][0-9]{0,8}", given["burst"]) and "rate" in given):
        raise ValueError(f"key {number} must have a number of events after :burst=, and a :rate=")
    return given


def _plain(value: object) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
