"""The description: it says what the routes are, and requests made from it are answered as it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from functions.report.openapi import PARAMETERS, description
from functions.report.routes import ROUTES
from tests.openapi_checks import CHECKS

if TYPE_CHECKING:
    import httpx2

    from tests.report.conftest import Put

HOUR_S = 3600


def test_it_describes_every_route_and_no_other() -> None:
    """With the route's own parameters, each of which has a meaning and a schema."""
    paths = description()["paths"]

    assert [route.template for route in ROUTES] == [*paths]
    for route in ROUTES:
        parameters = paths[route.template]["get"]["parameters"]
        assert route.parameters == tuple(each["name"] for each in parameters if each["in"] == "query")
    assert set(PARAMETERS) == {name for route in ROUTES for name in route.parameters}


def test_it_is_served_and_has_an_etag(report: httpx2.Client) -> None:
    """To everybody; it tells what there is to ask for, and no number."""
    answer = report.get("/openapi.json")

    assert description() == answer.json()
    assert 304 == report.get("/openapi.json", headers={"if-none-match": answer.headers["etag"]}).status_code


def test_requests_made_from_it_are_answered_as_it_says(report: httpx2.Client, put: Put, report_url: str) -> None:
    """Right ones and wrong ones, by schemathesis: status, content type and body are those described; none fails."""
    users = {f"u{number}": (number * 60, 1 + number % 4, 0, 10**6) for number in range(50)}
    put(users, {"m": users, "n": {"x": (HOUR_S, 1)}})
    schema: Any = schemathesis.openapi.from_dict(report.get("/openapi.json").json())
    schema.config.base_url = report_url
    statuses: dict[int, int] = {}

    for operation in (result.ok() for result in schema.get_all_operations()):

        @given(case=operation.as_strategy(), known=st.booleans())
        @settings(
            max_examples=40, database=None, phases=[Phase.generate], derandomize=True,
            suppress_health_check=[*HealthCheck],
        )  # fmt: skip
        def ask(case: Any, *, known: bool) -> None:
            if known and "merchant_id" in (case.path_parameters or {}):
                case.path_parameters["merchant_id"] = "m"
            answer = case.call(session=None)
            case.validate_response(answer, checks=CHECKS)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1

        ask()
    assert {200, 400, 404} <= statuses.keys(), statuses
