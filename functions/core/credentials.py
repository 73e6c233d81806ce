"""Credentials that stand where they should not: in log lines, and in events that apps sent by mistake. Pure.

Known by the name that they stand under, in a text too (``"password": "…"``, ``token=…``), or by how they look: after
``Bearer`` or ``Basic``, one of our own keys (``ftw_…``), a JSON web token, a user and password in an address.
"""

from __future__ import annotations

import base64
import binascii
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
_NAMES: Final = r"authorization|cookie|passw(?:or)?d|passphrase|secret|credential|(?:private|api|access|write)[_-]?key"
_NAME: Final = re.compile(rf"{_NAMES}|token$", re.IGNORECASE)
_IN_QUERY: Final = re.compile(rf"(?P<kind>[?&][\w.-]{{0,64}}(?:{_NAMES}|token)=)[^&#\s\"]+", re.ASCII | re.IGNORECASE)
_JSON_WEB_TOKEN: Final = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*", re.ASCII)
_NAMED: Final = re.compile(
    rf"""(?P<kind>(?:(?:{_NAMES})[\w.-]{{0,64}}|token)[\\"']{{0,2}}\s{{0,8}}[:=]\s{{0,8}})
    (?:\\?"(?:[^"\\]|\\.)*"? | '[^']*'? | \[[^\]]*\]? | \{{[^}}]*\}}?
    | (?:(?:Bearer|Basic|Digest|Negotiate)\s{{1,8}})?[^\s"'&;,}}\]]+)""",
    re.ASCII | re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
"""What stands under such a name within a text, be that broken JSON, a form or a header. Its parts are bounded: a text
may be made to be slow to look through."""
_IDENTIFIERS: Final = frozenset({"id", "source", "type", "subject", "user_id", "event", "flyer_id", "merchant_id"})
"""Names of texts that may be ``token:5`` and mean it: of those only what certainly is a credential is taken out."""


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
        text = hide_in_identifier(value, token)
        return _NAMED.sub(_hide_named, text) if ":" in text or "=" in text else text
    if isinstance(value, dict):
        return {hide_in_identifier(name, token): _hidden(name, inner, token) for name, inner in value.items()}
    if isinstance(value, list):
        return [hide_in_json(inner, token) for inner in value]
    return value


def hide_in_identifier(text: str, token: str | None = None) -> str:
    """Return a text that names something, without what certainly is a credential in it."""
    if token is not None and len(token) >= MIN_TOKEN_CHARACTERS:
        text = text.replace(token, HIDDEN)
    text = _IN_EVENT.sub(_hide, text)
    if "=" in text:
        text = _IN_QUERY.sub(_hide_named, text)
    return _JSON_WEB_TOKEN.sub(HIDDEN, text) if "eyJ" in text else text


def _hidden(name: str, value: object, token: str | None) -> object:
    if value is not None and is_credential_name(name):
        return HIDDEN
    if isinstance(value, str):
        if name in _IDENTIFIERS:
            return hide_in_identifier(value, token)
        if name == "data_base64":
            return _hidden_in_base64(value, token)
    return hide_in_json(value, token)


def _hidden_in_base64(encoded: str, token: str | None) -> object:
    """Return packed data without the credentials in it, packed again where there are some."""
    try:
        text = base64.b64decode(encoded).decode("utf-8", "surrogateescape")
    except (ValueError, binascii.Error):
        return hide_in_json(encoded, token)
    shown = str(hide_in_json(text, token))
    return encoded if shown == text else base64.b64encode(shown.encode("utf-8", "surrogateescape")).decode()


def _hide(match: re.Match[str]) -> str:
    return f"://{HIDDEN}@" if match["scheme"] else f"{match['kind']}{HIDDEN}"


def _hide_named(match: re.Match[str]) -> str:
    return f"{match['kind']}{HIDDEN}"
