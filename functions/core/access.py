"""Access keys: who may write, told by a token of which only the hash is kept.

A line of the setting is ``name:sha256`` or ``name:sha256:source=SOURCE``; lines stand apart by white space. Several may
be valid at once, so that a key can be changed without a gap: add the new line, let the senders change, take the old one
out. Tokens are long and random, so a plain SHA-256 is enough: there is nothing to guess.
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


@dataclass(frozen=True, slots=True)
class AccessKey:
    """One key."""

    name: str
    token_sha256: str
    source: str | None = None
    """The CloudEvents source that its events must have, or below which theirs must lie; None: any."""

    def may_send(self, source: str) -> bool:
        """Tell whether events of a source may come with this key."""
        bound = self.source
        return bound is None or source == bound or source.startswith(bound if bound.endswith("/") else f"{bound}/")

    @property
    def line(self) -> str:
        """The line of the setting."""
        return ":".join([self.name, self.token_sha256, *([f"source={self.source}"] if self.source is not None else [])])


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
        token_sha256, _, bound = rest.partition(":")
        if not NAME.fullmatch(name) or not SHA256.fullmatch(token_sha256):
            raise ValueError(
                f"key {number} must be name:SHA-256 in 64 lower-case hex digits, as `flyertime keys` prints it"
            )
        if bound and not (bound.startswith("source=") and len(bound) > len("source=")):
            raise ValueError(f"key {number} may end in :source=SOURCE and nothing else")
        if any(name == key.name for key in keys):
            raise ValueError(f"key {number} has the name of an earlier one")
        keys.append(AccessKey(name, token_sha256, bound.removeprefix("source=") if bound else None))
    return AccessKeys(tuple(keys))
