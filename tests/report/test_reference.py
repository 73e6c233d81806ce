"""docs/report.md is true to the source: routes, parameters, columns, headers and codes."""

from __future__ import annotations

from functions.core.report_columns import MERCHANT_COLUMNS, USER_COLUMNS
from functions.core.report_freshness import Freshness
from functions.core.report_query import MAX_LIMIT
from functions.report.openapi import PARAMETERS, description
from functions.report.routes import ROUTES
from functions.report.tables import MAX_SORTED_ROWS
from tests.codes_in_source import REFUSALS, ROOT, codes_in_source, codes_under, rows_under

DOCUMENT = "report.md"
ELSEWHERE = {
    "bad_target": "ends the process at its start",
    "no_pseudonym_secret": "ends the process at its start",
    "no_read_keys": "ends the process at its start",
    "bad_run_name": "trigger's",
    "no_such_entry": "the command line's",
    "quarantine_format": "the command line's",
    "sink_refused": "on the way to trigger; the reader never hears of it",
    "sink_unavailable": "on the way to trigger; the reader never hears of it",
}
"""Codes in modules that report imports which no reply of report has, and why."""


def test_every_route_is_described_and_no_other() -> None:
    """In the order of the table of routes."""
    paths = [cells[0].strip("`") for cells in rows_under(DOCUMENT, "## Addresses") if cells[0].startswith("`/")]

    assert [route.template for route in ROUTES] == paths


def test_every_parameter_is_described_with_the_routes_that_take_it() -> None:
    """As the routes do; limits are those of the code."""
    described = {
        cells[0].strip("`"): cells[1] for cells in rows_under(DOCUMENT, "## Addresses") if not cells[0].startswith("`/")
    }
    taken = {name: {route.name for route in ROUTES if name in route.parameters} for name in PARAMETERS}
    tables = {"users", "merchant_users"}
    places = {
        "tables of users": tables,
        "tables of users, one user": {*tables, "user"},
    }

    assert [*PARAMETERS] == [*described]
    for name, where in described.items():
        everywhere = {route.name for route in ROUTES} - ({"description"} if name == "format" else set())
        assert taken[name] == (everywhere if where == "everywhere" else places[where]), name
    text = (ROOT / "docs" / DOCUMENT).read_text()
    assert f"1 to {MAX_LIMIT:,}" in text
    assert f"without `limit` end at {MAX_SORTED_ROWS:,} rows" in text


def test_every_column_is_described_as_the_description_does() -> None:
    """Name, kind and words, in the order in which they come."""
    columns = [[f"`{column.name}`", column.kind.value, column.doc] for column in (*USER_COLUMNS, *MERCHANT_COLUMNS)]

    assert columns == rows_under(DOCUMENT, "## Columns")


def test_every_header_of_freshness_is_described() -> None:
    """Here and in the description, all that may be there and no other."""
    run = {"ended_at": "x", "state": "x"}
    headers = Freshness(1, 1, 1, run).headers()

    assert [*headers] == [cells[0].strip("`") for cells in rows_under(DOCUMENT, "## How fresh it is")]
    assert {*headers} < {*description()["paths"]["/"]["get"]["responses"]["200"]["headers"]}


def test_every_code_of_a_refusal_is_described() -> None:
    """Here, or where it is the same, in the contract of ingest; none of those left out is one after all."""
    source = codes_in_source("report", REFUSALS)
    shared = codes_under("ingest.md", "### Refusals of requests")

    assert source >= set(ELSEWHERE)
    assert source - set(ELSEWHERE) - shared == codes_under(DOCUMENT, "## Refusals")
