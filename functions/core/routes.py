"""Which route a path is: a bounded set of names for metrics and spans, whatever paths are asked for. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

UNKNOWN: Final = "other"
METHODS: Final = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"})
OTHER_METHOD: Final = "_OTHER"
"""What OpenTelemetry's conventions call a method that is none."""


class Routes:
    """The routes of a function, as templates: ``/users/{user_id}``."""

    def __init__(self, templates: Iterable[str]) -> None:
        self._exact = {template: template for template in templates if "{" not in template}
        self._patterns = [(template, template.split("/")) for template in templates if "{" in template]

    def of(self, path: str) -> str:
        """Return the template of a path; `UNKNOWN` where it has none."""
        known = self._exact.get(path)
        if known is not None:
            return known
        if path != "/" and path.endswith("/"):
            return self.of(path[:-1])
        parts = path.split("/")
        for template, pattern in self._patterns:
            if len(parts) == len(pattern) and all(
                part == wanted or wanted.startswith("{") for part, wanted in zip(parts, pattern, strict=True)
            ):
                return template
        return UNKNOWN


def method_of(method: str) -> str:
    """Return the method as a label: one of those that there are."""
    return method if method in METHODS else OTHER_METHOD
