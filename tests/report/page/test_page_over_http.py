"""The page's files and charts over HTTP: who gets the page, with which headers, and what a chart may be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from functions.report.page.files import page_files, version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.core.settings import Settings
    from tests.conftest import ServeFunction

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
CHART: dict[str, Any] = {
    "kind": "columns", "title": "t", "width_px": 600, "height_px": 300,
    "bars": [{"label": "a", "value": 1.5, "words": "a: 1.5"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def client(report_settings: Settings, serve_function: ServeFunction) -> Iterator[httpx2.Client]:
    """A client of a report."""
    with (
        serve_function("report", report_settings) as process,
        httpx2.Client(base_url=process.url, trust_env=False) as client,
    ):
        yield client


def test_a_browser_gets_the_page_and_a_client_the_numbers(client: httpx2.Client) -> None:
    """By what each says it takes; both are told apart in caches."""
    page, numbers = client.get("/", headers={"accept": BROWSER}), client.get("/")

    assert ("text/html; charset=utf-8", "application/json") == (
        page.headers["content-type"],
        numbers.headers["content-type"],
    )
    assert all("accept" in reply.headers["vary"].split(", ") for reply in (page, numbers))
    assert page.headers["etag"] != numbers.headers["etag"]


@pytest.mark.parametrize("query", ["format=csv", "limit=5", "format=json"])
def test_a_browser_that_asks_a_question_gets_its_answer(client: httpx2.Client, query: str) -> None:
    """An address with a query is one of the numbers, also in a browser."""
    assert "text/html" not in client.get(f"/?{query}", headers={"accept": BROWSER}).headers["content-type"]


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in page_files() if name != "index.html")])
def test_every_file_has_the_policy_and_is_not_guessed_at(client: httpx2.Client, path: str) -> None:
    """Nothing inline, nothing from elsewhere, in no frame; no referrer, no sniffing."""
    headers = client.get(path, headers={"accept": BROWSER}).headers
    policy = headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not {"unsafe", "http", "*", "data:"} & {word for word in ("unsafe", "http", "*", "data:") if word in policy}
    assert ("nosniff", "no-referrer", "DENY", "same-origin") == tuple(
        headers[name]
        for name in ("x-content-type-options", "referrer-policy", "x-frame-options", "cross-origin-resource-policy")
    )


@pytest.mark.parametrize(("path", "kept"), [("/", "no-cache"), ("/page/app.js", "no-cache")])
def test_what_may_change_is_asked_for_again_and_answered_in_short(client: httpx2.Client, path: str, kept: str) -> None:
    """A 304 for who has it."""
    first = client.get(path, headers={"accept": BROWSER})
    again = client.get(path, headers={"accept": BROWSER, "if-none-match": first.headers["etag"]})

    assert (kept, 304, b"") == (first.headers["cache-control"], again.status_code, again.content)


@pytest.mark.parametrize("path", ["/", "/page/app.js"])
def test_a_file_is_packed_for_who_takes_that_under_a_tag_of_its_own(client: httpx2.Client, path: str) -> None:
    """A strong tag is of the bytes that are sent; who refuses gzip by name gets none."""
    packed, plain, refused = (
        client.get(path, headers={"accept": BROWSER, "accept-encoding": coding})
        for coding in ("br, gzip", "identity", "gzip;q=0")
    )

    assert ["gzip", None, None] == [reply.headers.get("content-encoding") for reply in (packed, plain, refused)]
    assert packed.text == plain.text == refused.text
    assert packed.headers["etag"] != plain.headers["etag"] == refused.headers["etag"]
    for coding, etag, status in (
        ("gzip", packed.headers["etag"], 304), ("gzip", plain.headers["etag"], 200),
        ("identity", plain.headers["etag"], 304), ("identity", packed.headers["etag"], 200),
    ):  # fmt: skip
        headers = {"accept": BROWSER, "accept-encoding": coding, "if-none-match": etag}
        assert status == client.get(path, headers=headers).status_code


def test_a_file_of_this_version_is_kept_for_good(client: httpx2.Client) -> None:
    """And one of another version, which an old page may ask for while it is being replaced, is not."""
    current, other = (client.get("/page/app.js", params={"v": v}).headers for v in (version(), "older"))

    assert ("public, max-age=31536000, immutable", "no-cache") == (current["cache-control"], other["cache-control"])


@pytest.mark.parametrize("name", ["none.js", "index.html", "..%2Fpage.py", "", "app.js/x", "%00"])
def test_there_are_no_other_files(client: httpx2.Client, name: str) -> None:
    """Whatever the path says."""
    assert (404, "no_such_path") == ((reply := client.get(f"/page/{name}")).status_code, reply.json()["code"])


@pytest.mark.parametrize("kind", ["columns", "rows"])
def test_a_chart_is_drawn_from_what_is_sent(client: httpx2.Client, kind: str) -> None:
    """As SVG, which no cache keeps."""
    reply = client.post("/page/chart", json={**CHART, "kind": kind})

    assert (200, "image/svg+xml", "no-store") == (
        reply.status_code, reply.headers["content-type"], reply.headers["cache-control"],
    )  # fmt: skip
    assert "a: 1.5" in reply.text


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "pie"}, {"width_px": 10**9}, {"height_px": -1}, {"bars": [CHART["bars"][0]] * 101}, {"bars": None},
        {"bars": [{"label": "a", "value": -1, "words": ""}]}, {"title": "x" * 2001},
    ],
    ids=str,
)  # fmt: skip
def test_a_chart_beyond_its_bounds_is_refused(client: httpx2.Client, change: dict[str, Any]) -> None:
    """What it would cost is bounded, for whoever asks."""
    reply = client.post("/page/chart", json={**CHART, **change})

    assert (400, "bad_chart") == (reply.status_code, reply.json()["code"])


def test_a_chart_of_too_many_bytes_or_of_none_is_refused(client: httpx2.Client) -> None:
    """Before anything is drawn."""
    assert 413 == client.post("/page/chart", content=b" " * 70_000).status_code
    assert 400 == client.post("/page/chart", content=b"{").status_code
    assert (405, "POST") == ((reply := client.get("/page/chart")).status_code, reply.headers["allow"])
