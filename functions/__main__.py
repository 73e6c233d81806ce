"""``python -m functions`` is ``flyertime``."""

from __future__ import annotations

from functions.cli import main

main()
