"""A table for the terminal: columns as wide as what stands in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows under a head; numbers stand to the right."""
    texts = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(head, *texts, strict=True)]

    def line(cells: Sequence[str], values: Sequence[object]) -> str:
        return "   " + "  ".join(
            cell.rjust(width) if isinstance(value, int | float) else cell.ljust(width)
            for cell, width, value in zip(cells, widths, values, strict=True)
        )

    first = rows[0] if rows else head
    rule = ["-" * width for width in widths]
    return "\n".join(
        part.rstrip()
        for part in (line(head, first), line(rule, head), *(line(t, r) for t, r in zip(texts, rows, strict=True)))
    )
