"""Write the table of settings into a Markdown file between its two marks; ``--check`` says whether it is right."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Final

from functions.core.settings import Settings, variable_of

BEGIN: Final = "<!-- settings: begin -->"
END: Final = "<!-- settings: end -->"


def settings_table() -> str:
    """Return the table: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(Settings):
        default = "" if field.default is None else f"`{field.default}`"
        choices = f" One of {', '.join(field.metadata['choices'])}." if field.metadata["choices"] else ""
        meaning = field.metadata["doc"].replace("|", "\\|")
        rows.append(f"| `{variable_of(field)}` | {default} | {meaning}.{choices} |")
    return "\n".join(rows)


def with_table(text: str) -> str:
    """Return a text with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{settings_table()}\n{END}{after}"


def main() -> int:
    """Write the table, or check it."""
    path = Path(sys.argv[1])
    text = path.read_text()
    if "--check" in sys.argv:
        return int(with_table(text) != text)
    path.write_text(with_table(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
