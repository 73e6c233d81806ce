"""The paths that the report answers: one table, from which the handler, its description and the tests follow."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from urllib.parse import unquote

from functions.core.report_query import FORMAT_PARAMETERS, KEY_PARAMETERS, ROW_PARAMETERS, TABLE_PARAMETERS


class Answer(Enum):
    """What a route answers with."""

    USERS = auto()
    """A table of users, with filters, order and pages."""
    USER = auto()
    """One user's row."""
    MERCHANTS = auto()
    """The table of merchants."""
    SUMMARY = auto()
    """A few numbers, as a JSON object."""
    DESCRIPTION = auto()
    """The OpenAPI description, which everybody may read."""


_TABLES: Final = (Answer.USERS, Answer.USER, Answer.MERCHANTS)


@dataclass(frozen=True, slots=True)
class Route:
    """One path template."""

    template: str
    name: str
    """Its operation's, in OpenAPI."""
    answer: Answer
    parameters: tuple[str, ...]
    """Of the query; any other is refused."""
    about: str

    @property
    def has_formats(self) -> bool:
        """Whether the answer is a table, which comes in every format."""
        return self.answer in _TABLES


ROUTES: Final = (
    Route("/", "users", Answer.USERS, TABLE_PARAMETERS, "The average time on flyer of every user"),
    Route("/users/{user_id}", "user", Answer.USER, ROW_PARAMETERS, "The average time on flyer of one user"),
    Route("/merchants", "merchants", Answer.MERCHANTS, FORMAT_PARAMETERS, "All merchants, side by side"),
    Route(
        "/merchants/{merchant_id}", "merchant_users", Answer.USERS, TABLE_PARAMETERS,
        "The average time on the flyers of one merchant, of every user",
    ),
    Route("/summary", "summary", Answer.SUMMARY, FORMAT_PARAMETERS, "All users in a few numbers, and how fresh"),
    Route(
        "/merchants/{merchant_id}/summary", "merchant_summary", Answer.SUMMARY, FORMAT_PARAMETERS,
        "The users of one merchant's flyers in a few numbers",
    ),
    Route("/openapi.json", "description", Answer.DESCRIPTION, KEY_PARAMETERS, "This description"),
)  # fmt: skip


_TEMPLATES: Final = tuple((route, route.template.split("/")) for route in ROUTES)


def route_of(path: str) -> tuple[Route, dict[str, str]] | None:
    """Return the route of a path as it was sent, and its parts by name, percent-decoded; None where there is none.

    An empty last part is a user's id, which may be empty; elsewhere a slash at the end counts for nothing.
    """
    try:
        sent = path.split("/") if "%" not in path else [unquote(part, errors="strict") for part in path.split("/")]
    except UnicodeDecodeError:
        return None
    for route, wanted in _TEMPLATES:
        given = sent[:-1] if len(sent) == len(wanted) + 1 and sent[-1] == "" else sent
        if len(given) != len(wanted):
            continue
        parts = {}
        for part, template in zip(given, wanted, strict=True):
            if template.startswith("{"):
                parts[template[1:-1]] = part
            elif part != template:
                break
        else:
            if parts.get("merchant_id") != "":
                return route, parts
    return None
