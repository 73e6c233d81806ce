"""Settings from environment variables, all faults told at once. Pure."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, get_type_hints

from functions.core.errors import MisconfiguredError
from functions.core.settings import PREFIX, Settings, variable_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def parse(environment: Mapping[str, str]) -> Settings:
    """Return the settings that environment variables describe; an empty variable counts as unset.

    Raises:
        MisconfiguredError: Some variable has no such meaning, or is out of range; all of them are named at once.
    """
    types = get_type_hints(Settings)
    fields = {variable_of(field): field for field in dataclasses.fields(Settings)}
    faults: list[str] = []
    values: dict[str, Any] = {}
    for variable, field in fields.items():
        text = environment.get(variable, "").strip()
        if text:
            try:
                values[field.name] = _parse_one(text, types[field.name], field.metadata)
            except ValueError as e:
                faults.append(f"{variable} {e}")
    if faults:
        raise MisconfiguredError("bad_settings", "; ".join(faults))
    return Settings(**values)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a warning for each ``FLYERTIME_*`` variable that is no setting.

    Not an error: Kubernetes gives pods such variables for a Service whose name begins with ``flyertime``.
    """
    known = [variable_of(field) for field in dataclasses.fields(Settings)]
    return [
        f"{name} is not a setting" + _suggestion(name, known)
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known
    ]


def _parse_one(text: str, kind: Any, metadata: Mapping[str, Any]) -> Any:
    value: Any
    if kind in {int, int | None}:
        try:
            value = int(text)
        except ValueError:
            raise ValueError("must be a whole number") from None
    elif kind in {float, float | None}:
        try:
            value = float(text)
        except ValueError:
            raise ValueError("must be a number") from None
    else:
        value = text
    low, high, choices = metadata["low"], metadata["high"], metadata["choices"]
    if low is not None and not value >= low:  # also refuses "nan"
        raise ValueError(f"must be at least {low}")
    if high is not None and not value <= high:
        raise ValueError(f"must be at most {high}")
    pattern = metadata["pattern"]
    if pattern is not None and not re.fullmatch(pattern, text):
        raise ValueError(f"must match {pattern}")
    if choices and value not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}")
    return value


def _suggestion(name: str, known: list[str]) -> str:
    import difflib  # noqa: PLC0415  # only needed for the message

    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
