"""Whose numbers a reader is shown: all merchants together or one, decided once for every route and format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """What one answer is made from."""

    merchant: str | None = None
    """Whose flyers; None: those of all merchants together."""
    everything: bool = True
    """Whether the reader may see all merchants, and the books, which tell of all of them."""

    def key(self) -> str:
        """Return a text that is the same exactly for the same view."""
        return f"{self.merchant!r}|{self.everything}"
