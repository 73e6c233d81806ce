"""Write the tables that the code itself gives into Markdown files, each between its two marks."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.adapters import metrics, prometheus
from functions.core.settings import Settings, variable_of

if TYPE_CHECKING:
    from collections.abc import Callable


# Each part of the table, and the setting with which it begins.
PARTS: Final = {
    "redis_url": "The store",
    "dedupe_window_s": "Ingest",
    "read_auth": "The report",
    "threshold_events": "Trigger",
    "local_runs_dir": "Runs on this machine",
    "kubeconfig": "Runs by the Spark operator",
    "spark_master": "The Spark job",
    "log_level": "Every function",
}


def settings_table() -> str:
    """Return the settings, part by part: variable, default, meaning."""
    lines: list[str] = []
    for field in dataclasses.fields(Settings):
        if field.name in PARTS:
            lines += ["", f"## {PARTS[field.name]}", "", "| variable | default | meaning |", "|---|---|---|"]
        default = "" if field.default is None else f"`{field.default}`"
        choices = f" One of {', '.join(field.metadata['choices'])}." if field.metadata["choices"] else ""
        meaning = field.metadata["doc"].replace("|", "\\|")
        lines.append(f"| `{variable_of(field)}` | {default} | {meaning}.{choices} |")
    return "\n".join([*lines, ""])


def metrics_table() -> str:
    """Return the metrics: name, kind, labels, which functions have it, meaning."""
    rows = ["| metric | kind | labels | of | meaning |", "|---|---|---|---|---|"]
    everywhere = metrics.ALL
    described = [
        *((one.name, one.kind, one.labels, one.functions, one.doc) for one in metrics.COUNTED),
        *((one.name, one.kind, one.labels, everywhere, one.doc) for one in prometheus.READ),
    ]
    for name, kind, labels, functions, doc in described:
        of = "all" if functions == everywhere else ", ".join(functions)
        rows.append(f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {of} | {doc} |")
    return "\n".join(rows)


TABLES: Final[dict[str, Callable[[], str]]] = {"settings": settings_table, "metrics": metrics_table}


def with_tables(text: str) -> str:
    """Return a text with each table for which it has marks."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if begin in text:
            before, _, rest = text.partition(begin)
            text = f"{before}{begin}\n{table()}\n{end}{rest.partition(end)[2]}"
    return text


def main() -> None:
    """Write the tables into the files that are named."""
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(with_tables(path.read_text()))


if __name__ == "__main__":
    main()
