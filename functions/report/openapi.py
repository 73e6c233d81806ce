"""The report's description in OpenAPI 3.1, made from the table of routes, so that the two cannot differ."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions.adapters import build
from functions.core import event_types
from functions.core.report_columns import MERCHANT_COLUMNS, USER_COLUMNS, Kind
from functions.core.report_query import FORMATS, MAX_LIMIT, ORDERS
from functions.core.report_summary import PERCENTILES
from functions.report import formats
from functions.report.routes import ROUTES, Answer, Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.report_columns import Column

_FIELDS: Final = "|".join(column.name for column in USER_COLUMNS)
_WHOLE: Final = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_HOURS: Final = {"type": "number", "minimum": 0, "maximum": 999_999_999_999, "multipleOf": 0.01}

PARAMETERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "fields": (
        "columns, in this order, apart by commas; `all` for all of them",
        {"type": "string", "pattern": f"^(all|({_FIELDS})(,({_FIELDS}))*)$", "examples": ["user_id,sessions", "all"]},
    ),
    "min_sessions": ("only users with at least so many sessions", _WHOLE),
    "min_hours": ("only users with this average or a greater one, in hours", _HOURS),
    "max_hours": ("only users with this average or a smaller one, in hours", _HOURS),
    "prefix": ("only users whose id begins so", {"type": "string", "maxLength": 1024}),
    "sort": (
        "by which column; with a - before it the greatest comes first; among equals users come by id",
        {"type": "string", "enum": [f"{sign}{name}" for name in ORDERS for sign in ("", "-")]},
    ),
    "limit": ("rows of a page; without it there are no pages", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
    "after": ("where the page before ended: from its next link, unchanged", {"type": "string"}),
    "format": ("the format by name, where Accept cannot be set", {"type": "string", "enum": [*FORMATS]}),
    "key": ("the read key, for those who cannot set the header Authorization", {"type": "string"}),
}  # fmt: skip

_ONLY_JSON: Final = {"type": "string", "const": "json"}
_MOMENT: Final = {"type": ["string", "null"], "format": "date-time"}
_COUNT: Final = {"type": ["integer", "null"]}
_PENDING: Final = {**_COUNT, "description": "events received and not yet in the answer; null with a merchant's key"}
_NUMBER: Final = {"type": ["number", "null"]}
_TYPES: Final[dict[Kind, dict[str, Any]]] = {
    Kind.TEXT: {"type": "string"},
    Kind.HOURS: _NUMBER,
    Kind.COUNT: _COUNT,
    Kind.MOMENT: _MOMENT,
}


@functools.cache
def description_text() -> bytes:
    """Return the description as JSON."""
    return msgspec.json.encode(description())


def description() -> dict[str, Any]:
    """Return the description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "flyertime report",
            "version": build.version(),
            "summary": "The average time on flyer, per user and per merchant",
            "description": "Each answer says how fresh it is, and comes again as 304 where nothing has changed.",
        },
        "security": [{"bearer": []}, {"basic": []}, {"query": []}],
        "paths": {route.template: _path(route) for route in ROUTES},
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "a read key (ftr_…), or a token (JWT)"},
                "basic": {"type": "http", "scheme": "basic", "description": "the read key as the password"},
                "query": {"type": "apiKey", "in": "query", "name": "key"},
            },
            "schemas": {
                "User": _row(USER_COLUMNS, required=False),
                "Users": {"type": "array", "items": {"$ref": "#/components/schemas/User"}},
                "UsersPage": {
                    "type": "object",
                    "properties": {
                        "rows": {"$ref": "#/components/schemas/Users"},
                        "next": {
                            "type": ["string", "null"],
                            "description": "address of the next page on this host; null on the last one",
                        },
                        "complete_through": _MOMENT,
                        "pending_events": _PENDING,
                    },
                    "required": ["rows", "next", "complete_through", "pending_events"],
                },
                "Merchants": {"type": "array", "items": _row(MERCHANT_COLUMNS, required=True)},
                "Summary": _SUMMARY,
                "Problem": {
                    "type": "object",
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "code": {"type": "string", "description": "stable, for programs"},
                        "detail": {"type": "string", "description": "for people: what was wrong, what would be right"},
                    },
                    "required": ["type", "title", "status", "code", "detail"],
                },
            },
        },
    }


def _path(route: Route) -> dict[str, Any]:
    parts = [part[1:-1] for part in route.template.split("/") if part.startswith("{")]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in parts
    ] + [
        {
            "name": name,
            "in": "query",
            "description": PARAMETERS[name][0],
            # Only tables come in more than one format.
            "schema": _ONLY_JSON if name == "format" and not route.has_formats else PARAMETERS[name][1],
        }
        for name in route.parameters
    ]  # fmt: skip
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.about,
        "parameters": parameters,
        "responses": _responses(route),
    }
    if route.answer is Answer.DESCRIPTION:
        operation["security"] = []
    return {"get": operation, "post": _EVENT} if route.template == "/" else {"get": operation}


def _responses(route: Route) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses: dict[str, Any] = {
        "200": {"description": "the answer", "headers": _HEADERS, "content": _content(route)},
        "304": {"description": "the asker has the answer already (If-None-Match)"},
        "400": {"description": "the query asks for nothing that there is", "content": problem},
    }
    if route.answer is not Answer.DESCRIPTION:
        responses |= {
            "401": {"description": "no read key, or none that is valid", "content": problem},
            "403": {"description": "the read key is bound to another merchant", "content": problem},
            "406": {"description": "Accept allows none of the formats", "content": problem},
            "429": {"description": "too many requests with this key; Retry-After says when", "content": problem},
            "503": {"description": "the store does not answer; Retry-After says when to ask again", "content": problem},
        }
    if "{" in route.template:
        responses["404"] = {"description": "there is no such user or merchant", "content": problem}
    return responses


def _content(route: Route) -> dict[str, Any]:
    schemas: dict[Answer, dict[str, Any]] = {
        Answer.USERS: {"oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("Users", "UsersPage")]},
        Answer.USER: {"$ref": "#/components/schemas/User"},
        Answer.MERCHANTS: {"$ref": "#/components/schemas/Merchants"},
        Answer.SUMMARY: {"$ref": "#/components/schemas/Summary"},
        Answer.DESCRIPTION: {"type": "object"},
    }
    content: dict[str, Any] = {"application/json": {"schema": schemas[route.answer]}}
    if route.has_formats:
        content |= {
            each.media_type.partition(";")[0]: {} for each in formats.FORMATS.values() if each is not formats.JSON
        }
    return content


def _row(columns: Sequence[Column], *, required: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "type": "object",
        "properties": {column.name: {**_TYPES[column.kind], "description": column.doc} for column in columns},
        "additionalProperties": False,
    }
    return {**row, "required": [column.name for column in columns]} if required else row


_HEADERS: Final = {
    "ETag": {"schema": {"type": "string"}},
    "flyertime-complete-through": {
        "description": "every event received up to this moment is in the answer", "schema": {"type": "string"},
    },
    "flyertime-pending-events": {
        "description": "events received and not yet in the answer; not with a merchant's key",
        "schema": {"type": "integer"},
    },
    "flyertime-last-run": {"description": "when the last run ended", "schema": {"type": "string"}},
    "flyertime-last-run-state": {"description": "succeeded or failed", "schema": {"type": "string"}},
    "flyertime-next-run-by": {"description": "when the next one starts at the latest", "schema": {"type": "string"}},
}  # fmt: skip

_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_EVENT: Final = {
    "operationId": "answer_event",
    "summary": "A request for a report as a CloudEvent, answered with one",
    "description": "Its data may have `merchant_id`, `rows` (true: the rows themselves, else their summary and where "
    "they are), and `query`, an object with the parameters of the table.",
    "parameters": [{"name": "key", "in": "query", "schema": {"type": "string"}}],
    "requestBody": {
        "required": True,
        "content": {
            "application/cloudevents+json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "specversion": {"const": "1.0"},
                        "type": {"const": event_types.REPORT_REQUESTED},
                        "source": {"type": "string", "minLength": 1},
                        "id": {"type": "string", "minLength": 1},
                        "data": {
                            "type": "object",
                            "properties": {
                                "merchant_id": {"type": ["string", "null"]},
                                "rows": {"type": "boolean"},
                                "query": {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
                            },
                            "additionalProperties": False,
                        },
                    },
                    "required": ["specversion", "type", "source", "id"],
                }
            }
        },
    },
    "responses": {
        "200": {"description": "an event with the report", "content": {"application/cloudevents+json": {}}},
        "400": {"description": "no such event, or one that asks for nothing that there is", "content": _PROBLEM},
        "401": {"description": "no read key, or none that is valid", "content": _PROBLEM},
        "403": {"description": "the read key is bound to another merchant", "content": _PROBLEM},
        "404": {"description": "no flyer of this merchant is in the report", "content": _PROBLEM},
        "408": {"description": "the body did not come in time", "content": _PROBLEM},
        "413": {"description": "the body is too large", "content": _PROBLEM},
        "415": {"description": "the body is no CloudEvent", "content": _PROBLEM},
        "429": {"description": "too many requests with this key", "content": _PROBLEM},
        "503": {"description": "the store does not answer; Retry-After says when to ask again", "content": _PROBLEM},
    },
}

_SUMMARY: Final = {
    "type": "object",
    "properties": {
        "users": _COUNT,
        "sessions": _COUNT,
        "mean_hours": {**_NUMBER, "description": "the mean of the users' averages"},
        "avg_time_on_flyer_hours": {**_NUMBER, "description": "the average of all sessions"},
        "percentiles": {"type": "object", "properties": {f"p{percent}": _NUMBER for percent in PERCENTILES}},
        "histogram": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"from_hours": {"type": "number"}, "to_hours": _NUMBER, "users": {"type": "integer"}},
                "required": ["from_hours", "to_hours", "users"],
            },
        },
        "unclosed_opens": _COUNT,
        "freshness": {
            "type": "object",
            "properties": {
                "complete_through": _MOMENT,
                "pending_events": _PENDING,
                "last_run": {"type": ["object", "null"]},
                "next_run_by": _MOMENT,
            },
        },
        "ledger": {"type": ["object", "null"], "description": "events by what became of them; null for one merchant"},
    },
    "required": [
        "users",
        "sessions",
        "mean_hours",
        "percentiles",
        "histogram",
        "unclosed_opens",
        "freshness",
        "ledger",
    ],
}
