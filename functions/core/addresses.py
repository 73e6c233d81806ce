"""Addresses as settings have them: one, or several apart by commas, and without what nobody else may see. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from functions.core.credentials import hide_in_identifier


def addresses_of(url: str) -> list[str]:
    """Return the addresses that a setting names, apart by commas; one without a scheme is like the first.

    A comma before the last ``@`` belongs to a password, unless another address begins behind it.
    """
    first, *others = (part.strip() for part in _BETWEEN_ADDRESSES.split(url))
    parts = urlsplit(first)
    user, at, _ = parts.netloc.rpartition("@")
    return [
        first,
        *(
            other if "://" in other else urlunsplit(parts._replace(netloc=f"{user}{at}{other}"))
            for other in others
            if other
        ),
    ]


_BETWEEN_ADDRESSES: Final = re.compile(r",(?=\s*[a-z]+://)|,(?=[^@]*$)")


def without_credentials(url: str) -> str:
    """Return an address, or several, without user and password."""
    return ",".join(map(_without_credentials, addresses_of(url)))


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return hide_in_identifier(url)  # the client takes a password behind a question mark too
