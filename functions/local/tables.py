"""Tables for the terminal: pure, columns as wide as what stands in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functions.core.tables import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functions.core.ledger import ShardLedger


def rows_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return the report's rows, which all have the same columns, as a table; hours have two digits."""
    if not rows:
        return "   no rows"
    return table([*rows[0]], [[_cell(name, value) for name, value in row.items()] for row in rows])


def _cell(name: str, value: object) -> object:
    if value is None:
        return "-"
    return f"{value:.2f}" if name.endswith("_hours") and isinstance(value, int | float) else value


def ledger_table(ledgers: Sequence[ShardLedger], *, each_shard: bool = False) -> str:
    """Return the books: the sum of all shards, and each shard where asked for."""
    columns = ["accepted", "duplicate", "folded", "pending"]
    if any(ledger.erased for ledger in ledgers):
        columns.append("erased")
    counts = [[int(getattr(ledger, column)) for column in columns] for ledger in ledgers]
    rows = [(str(ledger.shard), *row) for ledger, row in zip(ledgers, counts, strict=True)] if each_shard else []
    return table(["shard", *columns], [*rows, ("all", *map(sum, zip(*counts, strict=True)))])


def quarantine_table(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return rejected events as a table: one line each, with its first fault."""
    rows = []
    for entry in entries:
        fault, *others = entry["faults"]
        rows.append(
            (
                entry["id"],
                entry["received_at"][:19].replace("T", " "),
                fault["code"] + (f" (+{len(others)})" if others else ""),
                fault["pointer"][:30],
                (entry["key"] or "-")[:20],
                (entry["source"] or "-")[:30],
                (entry["event_id"] or "-")[:36],
                "yes" if entry["fixed"] is not None else "",
            )
        )
    return table(["entry", "received (UTC)", "fault", "field", "key", "source", "event", "fixed"], rows)


def runs_table(runs: Sequence[Mapping[str, str]]) -> str:
    """Return what the last runs did as a table, the newest first."""
    return table(
        ["run", "ended", "state", "events", "error"],
        [(run["run"], run["ended_at"][:19], run["state"], int(run["events"]), run["error"][:60]) for run in runs],
    )
