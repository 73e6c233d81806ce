"""User ids as one merchant sees them: keyed hashes, others for each merchant, so that two cannot join theirs. Pure."""

from __future__ import annotations

import hmac
import re
from typing import Final

PREFIX: Final = b"p-"
LEAST_SECRET_CHARACTERS: Final = 32
"""Who knows some users' ids and pseudonyms can try secrets as fast as a computer will: no text to be thought of."""
_BYTES: Final = 16
_SHAPE: Final = re.compile(r"p-[0-9a-f]{32}", re.ASCII)


def is_pseudonym(text: str) -> bool:
    """Tell whether a text looks like a pseudonym."""
    return _SHAPE.fullmatch(text) is not None


class Pseudonyms:
    """The pseudonyms of one merchant's users: HMAC-SHA-256, cut to 128 bits, in hex."""

    def __init__(self, secret: str, merchant: str) -> None:
        """Derive the merchant's own key.

        Args:
            secret: The setting.
            merchant: Whose readers will see them.
        """
        self._key = hmac.digest(secret.encode(), b"flyertime pseudonyms 1\0" + merchant.encode(), "sha256")

    @property
    def fingerprint(self) -> str:
        """What tells these from those of another secret or merchant, and nothing else."""
        return self.of(b"").decode()

    def of(self, user_id: bytes) -> bytes:
        """Return the pseudonym of a user."""
        return PREFIX + hmac.digest(self._key, user_id, "sha256")[:_BYTES].hex().encode()
