"""Credentials that stand where they should not: in log lines, and in events that apps sent by mistake. Pure.

Known by the name that they stand under, or by how they look: after ``Bearer`` or ``Basic``, one of our own keys
(``ftw_…``), a user and password in an address.
"""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "(hidden)"
MIN_TOKEN_CHARACTERS: Final = 8
"""What is shorter protects nothing, and stands in any text by chance."""

_IN_LOG: Final = re.compile(
    r"(?P<scheme>://)[^/\s@\"]+@|(?P<kind>\b(?:Bearer\s+|Basic\s+|ft[a-z]_))[\w.~+/=-]+", re.ASCII | re.IGNORECASE
)
# In an event a text may be anything: what only begins like a credential is left as it is.
_IN_EVENT: Final = re.compile(
    r"(?P<scheme>://)[^/\s@\"]+@|(?P<kind>\b(?:Bearer\s+|Basic\s+|ft[a-z]_))[\w.~+/=-]{16,}", re.ASCII | re.IGNORECASE
)
_NAME: Final = re.compile(
    r"authorization|cookie|passw(?:or)?d|passphrase|secret|credential|(?:private|api|access|write)[_-]?key|token$",
    re.IGNORECASE,
)


def hide_in_text(text: str) -> str:
    """Return a text for the log without the credentials in it, and without what might be one."""
    return _IN_LOG.sub(_hide, text)


def is_credential_name(name: str) -> bool:
    """Tell whether what stands under a name is likely a credential."""
    return _NAME.search(name) is not None


def hide_in_json(value: object, token: str | None = None) -> object:
    """Return decoded JSON without the credentials in it.

    Args:
        value: The JSON.
        token: One credential that is known, to be hidden wherever it stands.

    Raises:
        RecursionError: It is nested too deeply.
    """
    if isinstance(value, str):
        known = token is not None and len(token) >= MIN_TOKEN_CHARACTERS
        return _IN_EVENT.sub(_hide, value.replace(str(token), HIDDEN) if known else value)
    if isinstance(value, dict):
        return {
            hide_in_json(name, token): HIDDEN
            if inner is not None and is_credential_name(name)
            else hide_in_json(inner, token)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [hide_in_json(inner, token) for inner in value]
    return value


def _hide(match: re.Match[str]) -> str:
    return f"://{HIDDEN}@" if match["scheme"] else f"{match['kind']}{HIDDEN}"
