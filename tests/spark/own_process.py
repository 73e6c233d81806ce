"""A few lines with a Spark context, in a process of their own: the tests' process has one that all share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent


def last_line_of(script: str, *arguments: str) -> str:
    """Run a script, which has to succeed, and return the last line that it prints."""
    said = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, check=True, timeout=120, stdout=subprocess.PIPE, text=True
    )
    return said.stdout.splitlines()[-1]
