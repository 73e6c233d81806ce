"""Source files as Python's own parser sees them."""

from __future__ import annotations

import ast
import gc
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@lru_cache(None)
def parsed(path: Path) -> ast.Module:
    """Return the tree of a file.

    The collector does not run meanwhile: where a finalizer of something else parses too, or lets a thread in that
    does, Python 3.11 fails with "AST constructor recursion depth mismatch", which it counts for all of them together
    (https://github.com/python/cpython/issues/106905).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        if was_enabled:
            gc.enable()
