"""What is installed here."""

from __future__ import annotations

import functools
import importlib.metadata


@functools.cache
def version() -> str:
    """Return flyertime's version; ``unknown`` in a source tree that was never installed."""
    try:
        return importlib.metadata.version("flyertime")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
