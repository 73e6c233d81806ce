"""The page in Chromium, on a real report: what it shows equals what the report says, by mouse and by keyboard."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe

from functions.adapters.redis_shard import Change, Committed, ShardStore
from functions.core.settings import Settings
from functions.core.shards import shard_of
from functions.core.spans import Totals, pack_totals
from tests.report.page.conftest import HOSTILE_USER, MERCHANTS, SHARDS, USERS, shoot

if TYPE_CHECKING:
    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import ServeFunction
    from tests.report.page.conftest import Look, Visit

MAX_REQUESTS = 16
MAX_BYTES = 60_000
WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 390, "height": 844}
FIELDS = "user_id,avg_time_on_flyer_per_user_hours,sessions,total_seconds,last_seen"


def ask(url: str, path: str, **query: str) -> Any:
    """Return what the report says."""
    return httpx2.get(url + path, params=query, trust_env=False).raise_for_status().json()


def background(visit: Visit) -> str:
    """Return the colour of the page's ground."""
    colour: str = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return colour


def test_it_loads_little_and_nothing_from_elsewhere(look: Look, url: str) -> None:
    """Few requests and bytes, all of the report itself; no error, no warning, no violation of the policy."""
    with look(url) as visit:
        timing = "performance.getEntries().reduce((sum, entry) => sum + (entry.transferSize ?? 0), 0)"
        sent_bytes = visit.page.evaluate(timing)

        assert len(visit.requests) <= MAX_REQUESTS
        assert 0 < sent_bytes <= MAX_BYTES


def test_its_numbers_are_the_reports(look: Look, url: str, pending: int) -> None:
    """Tiles, tables, ledger and freshness equal /summary."""
    summary = ask(url, "/summary")
    percentiles = summary["percentiles"]
    with look(url) as visit:
        assert [
            summary["users"], summary["sessions"], summary["mean_hours"], percentiles["p50"], percentiles["p90"],
            percentiles["p99"], summary["unclosed_opens"],
        ] == visit.numbers("#tiles")  # fmt: skip
        assert [bucket["users"] for bucket in summary["histogram"]] == visit.numbers("#distribution-table")
        ledger = summary["ledger"]
        assert [ledger[name] for name in ("accepted", "folded", "pending", "erased", "duplicate")] == visit.numbers(
            "#ledger"
        )
        assert "the books balance" in visit.texts("#ledger-hint")[0]
        assert [pending] == visit.numbers("#freshness")
        assert summary["freshness"]["complete_through"] in visit.page.locator("#freshness").inner_html()
        assert [summary["freshness"]["last_run"]["ended_at"], summary["freshness"]["next_run_by"]] == sorted(
            visit.page.locator("#freshness time").evaluate_all("all => all.map(one => one.dateTime).slice(1)")
        )


def test_its_merchants_are_the_reports(look: Look, url: str) -> None:
    """The table beside the chart has every merchant, the one with the most users first."""
    merchants = sorted(ask(url, "/merchants"), key=lambda each: -each["users"])
    expected = [float(each[name]) for each in merchants for name in ("users", "sessions", "avg_time_on_flyer_hours")]
    with look(url) as visit:
        visit.page.locator("#merchants summary").click()

        assert expected == visit.numbers("#merchants-table")
        assert [each["merchant_id"] for each in merchants] == visit.texts("#merchants-table tbody th")


def test_the_charts_show_the_same_numbers(look: Look, url: str) -> None:
    """Each bar is as long as its number, in proportion, and says it in words."""
    histogram, merchants = ask(url, "/summary")["histogram"], ask(url, "/merchants")
    merchants.sort(key=lambda each: -each["users"])
    with look(url) as visit:
        visit.page.wait_for_selector("#merchants-chart rect.bar")
        heights = visit.page.locator("#distribution-chart rect.bar").evaluate_all(
            "all => all.map(e => e.height.baseVal.value)"
        )
        words = visit.page.locator("#distribution-chart rect.bar title").evaluate_all(
            "all => all.map(e => e.textContent)"
        )
        named = visit.page.locator("#merchants-chart rect.bar title").evaluate_all("all => all.map(e => e.textContent)")

    most = max(bucket["users"] for bucket in histogram)
    assert pytest.approx([bucket["users"] / most for bucket in histogram], abs=1e-6) == [
        height / max(heights) for height in heights
    ]
    assert [f"{bucket['users']} users" for bucket in histogram] == [text.rpartition(": ")[2] for text in words]
    assert {
        f"{each['merchant_id']}: {each['avg_time_on_flyer_hours']:.2f} hours on average, {each['users']} users"
        for each in merchants
    } == set(named)


def test_its_users_are_the_reports(look: Look, url: str) -> None:
    """The first page has the rows that the report gives for it, with their exact numbers."""
    rows = ask(url, "/", limit="25", sort="user_id", fields=FIELDS)["rows"]
    with look(url) as visit:
        assert [row["user_id"] for row in rows] == visit.users()
        assert [
            float(row[name])
            for row in rows
            for name in ("avg_time_on_flyer_per_user_hours", "sessions", "total_seconds")
        ] == visit.numbers("#users-body")


def test_paging_by_keyboard_shows_every_user_once(look: Look, url: str) -> None:
    """Enter on the next button to the end, and back; it keeps the focus, and says on which page we are."""
    with look(url) as visit:
        visit.page.locator("#next").focus()
        seen = visit.users()
        page = 1
        while visit.page.locator("#next").get_attribute("aria-disabled") == "false":
            page += 1
            visit.page.keyboard.press("Enter")
            visit.until(f"document.querySelector('#place').textContent.startsWith('Page {page},')")
            seen += visit.users()
            assert "next" == visit.page.evaluate("document.activeElement.id")
        assert sorted(USERS, key=str.encode) == seen
        visit.page.keyboard.press("Enter")  # at the end it does nothing
        visit.page.locator("#previous").focus()
        for before in range(page - 1, 0, -1):
            visit.page.keyboard.press("Space")
            visit.until(f"document.querySelector('#place').textContent.startsWith('Page {before},')")
        assert seen[:25] == visit.users()


def test_search_by_keyboard_finds_users_by_the_beginning_of_their_id(look: Look, url: str) -> None:
    """What is typed narrows the table to what the report gives for that prefix; what fits nobody says so."""
    with look(url) as visit:
        visit.page.get_by_role("searchbox", name="User id begins with").focus()
        visit.page.keyboard.type("user-01")
        visit.until("document.querySelectorAll('#users-body tr').length === 10")

        assert [row["user_id"] for row in ask(url, "/", prefix="user-01", sort="user_id")] == visit.users()
        visit.page.keyboard.type("x")
        visit.page.wait_for_selector("text=No user id begins with this.")


@pytest.mark.parametrize(
    ("title", "sort"), [("Average, hours", "hours"), ("Sessions", "sessions"), ("Last seen", "last_seen")]
)
def test_a_heads_button_sorts_and_says_so(look: Look, url: str, title: str, sort: str) -> None:
    """By keyboard: the greatest first, again for the least first; aria-sort tells, and the focus stays."""
    with look(url) as visit:
        visit.page.get_by_role("button", name=title).focus()
        for order, query in (("descending", f"-{sort}"), ("ascending", sort)):
            visit.page.keyboard.press("Enter")
            visit.page.wait_for_selector(f"th[aria-sort={order}] [data-sort={sort}]:focus")
            visit.settled()
            rows = ask(url, "/", limit="25", sort=query)["rows"]
            assert [row["user_id"] for row in rows] == visit.users()


def test_a_merchants_numbers_are_shown_alone_and_by_address(look: Look, url: str) -> None:
    """The choice stands in the address, so that it can be kept; tiles and users are that merchant's."""
    merchant = MERCHANTS[1]
    path = "/merchants/b%20%26%20%3Cb%3Eco%3C%2Fb%3E"
    summary = ask(url, f"{path}/summary")
    rows = ask(url, path, limit="25", sort="user_id")["rows"]
    with look(url) as visit:
        visit.page.get_by_label("Merchant", exact=True).select_option(label=merchant)
        visit.until(f"document.querySelector('#tiles data').value === '{summary['users']}'")
        visit.settled()
        assert [row["user_id"] for row in rows] == visit.users()
        visit.page.reload()
        visit.settled()

        assert summary["users"] == visit.numbers("#tiles")[0]
        assert [row["user_id"] for row in rows] == visit.users()


def test_an_id_is_text_whatever_it_holds(look: Look, url: str) -> None:
    """Markup in an id is shown as it is, and does nothing."""
    with look(url) as visit:
        visit.page.locator("#prefix").fill("<")
        visit.until("document.querySelectorAll('#users-body tr').length === 1")

        assert [HOSTILE_USER] == visit.users()
        assert 0 == visit.page.locator("#users-body img").count()


def test_a_download_is_the_whole_question(look: Look, url: str) -> None:
    """CSV of what is shown, all pages of it."""
    with look(url) as visit:
        visit.page.locator("#prefix").fill("user-")
        visit.until("!document.querySelector('#users-body').textContent.includes('=1+1')")
        with visit.page.expect_download() as waiting:
            visit.page.get_by_role("button", name="CSV").click()
        lines = waiting.value.path().read_text().splitlines()

    assert "time-on-flyer.csv" == waiting.value.suggested_filename
    assert [FIELDS, *(user for user in USERS if user.startswith("user-"))] == [
        lines[0], *(line.partition(",")[0] for line in lines[1:])
    ]  # fmt: skip


def test_the_theme_follows_the_system_until_one_is_chosen(look: Look, url: str) -> None:
    """The switch turns it over, and the choice is remembered."""
    with look(url, color_scheme="light") as visit:
        light = background(visit)
        visit.page.emulate_media(color_scheme="dark")
        dark = background(visit)
        switch = visit.page.get_by_role("switch", name="Dark mode")
        assert "true" == switch.get_attribute("aria-checked")
        switch.press("Space")
        assert (light, "false") == (background(visit), switch.get_attribute("aria-checked"))
        visit.page.reload()
        visit.settled()

        assert light == background(visit) != dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_it_breaks_no_rule_of_accessibility(look: Look, url: str, scheme: str, size: dict[str, int]) -> None:
    """axe-core finds nothing: names, roles, contrast, landmarks, headings, tables; with all details open."""
    with look(url, color_scheme=scheme, viewport=size) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        visit.page.wait_for_selector("#merchants-chart rect.bar")
        found = Axe().run(visit.page, options={"resultTypes": ["violations"]})

    assert [] == [
        (violation["id"], [node["html"] for node in violation["nodes"]]) for violation in found.response["violations"]
    ]


def test_a_screen_reader_finds_its_way(look: Look, url: str) -> None:
    """Landmarks, headings in order, and tables with names."""
    with look(url) as visit:
        outline = visit.page.locator("body").aria_snapshot()

    for part in (
        "banner:", 'heading "Time on flyer" [level=1]', "main:", 'heading "Overview" [level=2]', "search:",
        'heading "Distribution" [level=2]', 'img "Users by average time on flyer, in hours"',
        'heading "Users" [level=2]', 'table "Average time on flyer of each user', 'navigation "Pages of users"',
        'switch "Dark mode"', "contentinfo:",
    ):  # fmt: skip
        assert part in outline


def test_the_first_stop_of_the_keyboard_skips_to_the_report(look: Look, url: str) -> None:
    """Tab, Enter: past the head."""
    with look(url) as visit:
        visit.page.keyboard.press("Tab")
        assert "Skip to the report" == visit.page.evaluate("document.activeElement.textContent")
        visit.page.keyboard.press("Enter")

        assert "main" == visit.page.evaluate("document.activeElement.id")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(look: Look, url: str, width: int) -> None:
    """Only tables scroll sideways, within themselves (WCAG 1.4.10)."""
    with look(url, viewport={"width": width, "height": 800}) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_refresh_shows_what_was_committed_since(look: Look, url: str, report_settings: Settings) -> None:
    """And says aloud that the newest report is shown."""
    with look(url) as visit:
        before = visit.numbers("#tiles")[0]
        user = "zz-late"
        store = ShardStore(report_settings)
        shard = shard_of(user, SHARDS)
        averages = {user.encode(): pack_totals(Totals(3600, 2, 1, 2))}
        change = Change(shard, store.ledger(shard).commits, "", 0, True, {}, averages)
        assert isinstance(store.commit(change), Committed)
        visit.page.get_by_role("button", name="Refresh").click()
        visit.until(f"document.querySelector('#tiles data').value === '{int(before) + 1}'")
        visit.settled()
        averages = {user.encode(): pack_totals(Totals(0, 0, 1, 2))}  # as if it had never been, for the other tests
        change = Change(shard, store.ledger(shard).commits, "", 0, True, {}, averages)
        assert isinstance(store.commit(change), Committed)
        store.close()


def test_a_report_of_nobody_says_so(look: Look, valkey: EmbeddedValkey, serve_function: ServeFunction) -> None:
    """Before the first fold: noughts, no chart of merchants, and a sentence in the table."""
    empty = Settings(redis_url=valkey.url, namespace="page-empty", shards=SHARDS)
    with serve_function("report", empty) as process, look(process.url) as visit:
        assert "No user has a session yet." in visit.texts("#users-body")[0]
        assert "Nothing folded yet" in visit.texts("#freshness")[0]
        assert ["No numbers to show yet."] == visit.texts("#distribution-chart p")
        assert [0.0, 0.0] == visit.numbers("#tiles")[:2]
        assert not visit.page.locator("#merchants").is_visible()
        shoot(visit, "empty")


def test_a_report_that_does_not_answer_is_said_so(look: Look, filled: Settings, serve_function: ServeFunction) -> None:
    """In words, as an alert, and what was shown before stays."""
    with serve_function("report", filled) as process, look(process.url) as visit:
        process.stop()
        visit.page.get_by_role("button", name="Refresh").click()
        visit.page.wait_for_selector("#error:visible")

        assert "does not answer" in visit.texts("#error")[0]
        assert 25 == len(visit.users())
        shoot(visit, "error")
        assert all("ERR_CONNECTION_REFUSED" in problem for problem in visit.problems)
        visit.problems.clear()


def test_a_chart_that_is_refused_costs_nothing_but_itself(look: Look, url: str) -> None:
    """As one key may ask only so often: its place says why, and all numbers are there."""
    refusal = {"status": 429, "detail": "at most 1 requests a second with this key"}
    with look(url) as visit:
        visit.page.route("**/page/chart", lambda route: route.fulfill(status=429, json=refusal))
        visit.page.reload()
        visit.settled()

        assert ["The chart could not be drawn: at most 1 requests a second with this key"] == visit.texts(
            "#distribution-chart p"
        )
        assert 25 == len(visit.users())
        assert not visit.page.locator("#error").is_visible()
        assert all("429" in problem for problem in visit.problems)
        visit.problems.clear()


@pytest.mark.parametrize(
    ("name", "scheme", "size"),
    [
        ("light", "light", WIDE),
        ("dark", "dark", WIDE),
        ("narrow-light", "light", NARROW),
        ("narrow-dark", "dark", NARROW),
    ],
)
def test_pictures_are_written_for_review(look: Look, url: str, name: str, scheme: str, size: dict[str, int]) -> None:
    """Into screenshots/, which git does not keep."""
    with look(url, color_scheme=scheme, viewport=size) as visit:
        visit.page.wait_for_selector("#merchants-chart rect.bar")
        shoot(visit, name)
        assert not re.search(r"undefined|NaN|\[object", visit.page.locator("body").inner_text())
