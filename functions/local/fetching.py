"""Reading the report over HTTP, as the command line does: whole or not at all, and with a clear word where it fails."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

import httpx2

from functions.core.addresses import without_credentials
from functions.core.errors import RequestRefusedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

PAGE_ROWS: Final = 10_000
_TIMEOUT_S: Final = 60.0
"""For each part of an answer, not for all of it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the report."""

    url: str
    """Of the table, without a query."""
    query: Mapping[str, str]
    key: str | None = field(default=None, repr=False)
    """A read key; sent as a header."""


def copy(question: Question, output: BinaryIO, on_progress: Callable[[int], None] = lambda _: None) -> None:
    """Copy the answer as it comes; ``on_progress`` is told the number of bytes of each part.

    Raises:
        UnavailableError: Nobody answers there, not now, or not to the end: what was written is not the whole.
        RequestRefusedError: It says no.
    """
    with _asked(question, question.url, question.query) as response:
        for part in response.iter_bytes():
            output.write(part)
            on_progress(len(part))


def save(question: Question, path: Path, on_progress: Callable[[int], None] = lambda _: None) -> None:
    """Write the answer to a file, which appears, or replaces the one before, only once all of it is there.

    Raises:
        UnavailableError: As `copy`.
        RequestRefusedError: As `copy`, or the file cannot be written.
    """
    with replaced(path) as output:
        copy(question, output, on_progress)


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write, which takes the place of the one at the path once the block has ended well.

    Raises:
        RequestRefusedError: It cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("xb") as output:
            yield output
        partial.replace(path)
    except OSError as e:
        raise RequestRefusedError("not_written", f"{path} cannot be written: {e.strerror}") from e
    finally:
        partial.unlink(missing_ok=True)


def first_rows(question: Question, limit: int | None) -> tuple[list[dict[str, Any]], bool]:
    """Return the first so many rows, page by page, and whether there are more; None: all of them.

    Raises:
        UnavailableError: As `copy`.
        RequestRefusedError: As `copy`.
    """
    rows: list[dict[str, Any]] = []
    url, query = question.url, dict(question.query)
    while True:
        wanted = PAGE_ROWS if limit is None else min(PAGE_ROWS, limit - len(rows))
        with _asked(question, url, query | {"limit": str(wanted), "format": "json"}) as response:
            page = _json(response)
        rows += page["rows"]
        if page["next"] is None or (limit is not None and len(rows) >= limit):
            return rows, page["next"] is not None
        # The address of the next page holds the question; it is followed on the same host and no other.
        after = httpx2.URL(urljoin(question.url, page["next"])).params["after"]
        query["after"] = after


def one(question: Question) -> Any:
    """Return an answer that is one JSON value.

    Raises:
        UnavailableError: As `copy`.
        RequestRefusedError: As `copy`.
    """
    with _asked(question, question.url, {**question.query, "format": "json"}) as response:
        return _json(response)


def _json(response: httpx2.Response) -> Any:
    try:
        return json.loads(response.read())
    except ValueError as e:
        url = str(response.url.copy_with(query=None))
        raise UnavailableError("no_report", f"{without_credentials(url)} answers without JSON") from e


@contextmanager
def _asked(question: Question, url: str, query: Mapping[str, str]) -> Iterator[httpx2.Response]:
    headers = {"accept": "*/*", **({"authorization": f"Bearer {question.key}"} if question.key else {})}
    try:
        with httpx2.stream("GET", url, params=query, headers=headers, timeout=_TIMEOUT_S, trust_env=False) as response:
            if not response.is_success:
                response.read()
                raise _refusal(url, response)
            yield response
    except httpx2.RemoteProtocolError as e:
        message = f"{without_credentials(url)} broke off its answer before the end; nothing of it counts"
        raise UnavailableError("broken_off", message) from e
    except (httpx2.HTTPError, httpx2.InvalidURL) as e:
        message = f"{without_credentials(url)} does not answer ({type(e).__name__}): is it running?"
        raise UnavailableError("no_answer", message) from e


def _refusal(url: str, response: httpx2.Response) -> RequestRefusedError | UnavailableError:
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = "it gives no reason"
    message = f"{without_credentials(url)} answered {response.status_code}: {detail}"
    if response.status_code == 401:
        message += " (the key comes from FLYERTIME_READ_KEY, or --key)"
    if response.status_code >= 500 or response.status_code == 429:
        return UnavailableError("no_answer", message)
    return RequestRefusedError("refused", message)
