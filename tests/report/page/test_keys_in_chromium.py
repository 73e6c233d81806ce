"""The page of a report that needs a key, in Chromium: where the key goes, and what a merchant's key shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe

from functions.adapters.redis_shard import Change, Committed, ShardStore
from functions.core.access import sha256_of
from functions.core.read_access import ReadKey
from functions.core.settings import Settings
from functions.core.spans import Totals, pack_totals
from tests.report.page.conftest import MERCHANTS, shoot
from tests.report.readers import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import ServeFunction
    from tests.report.page.conftest import Look, Visit

MERCHANT = "metro"
ALL_KEY, MERCHANT_KEY = "ftr_all", "ftr_metro"
REFUSED = "status of 401"


@pytest.fixture(scope="module")
def url(filled: Settings, pending: int, serve_function: ServeFunction) -> Iterator[str]:
    """Address of a report that only its keys read; events are pending."""
    assert pending
    lines = (ReadKey("all", sha256_of(ALL_KEY)).line, ReadKey("metro", sha256_of(MERCHANT_KEY), MERCHANT).line)
    environment = {"FLYERTIME_READ_AUTH": "keys", "FLYERTIME_READ_KEYS": " ".join(lines)}
    environment["FLYERTIME_PSEUDONYM_SECRET"] = SECRET
    with serve_function("report", filled, **environment) as process:
        yield process.url


def enter(visit: Visit, key: str) -> None:
    """Type a key and press Enter, as one does."""
    visit.page.get_by_label("Read key").fill(key)
    visit.page.keyboard.press("Enter")


def expect_refusals(visit: Visit) -> None:
    """Take out the console's lines on answers of 401, which are the way to a key."""
    assert all(REFUSED in problem for problem in visit.problems), visit.problems
    visit.problems.clear()


def ask(url: str, key: str, path: str) -> Any:
    """Return what the report says to a key."""
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.get(url + path, headers=headers, trust_env=False).raise_for_status().json()


def test_without_a_key_it_asks_for_one_and_shows_nothing(look: Look, url: str) -> None:
    """The form has the focus, and breaks no rule of accessibility."""
    with look(url, settle=False) as visit:
        visit.page.wait_for_selector("#key-form:visible")
        assert "key" == visit.page.evaluate("document.activeElement.id")
        assert not visit.page.locator("#report").is_visible()
        shoot(visit, "key")
        found = Axe().run(visit.page, options={"resultTypes": ["violations"]})
        assert [] == [violation["id"] for violation in found.response["violations"]]
        expect_refusals(visit)


def test_a_wrong_key_is_said_so_and_can_be_typed_again(look: Look, url: str) -> None:
    """An alert beside the field, and the right one goes on from there."""
    with look(url, settle=False) as visit:
        visit.page.wait_for_selector("#key-form:visible")
        enter(visit, "ftr_wrong")
        visit.page.wait_for_selector("#key-error:not(:empty)")
        assert ["This key is not valid (any more)."] == visit.texts("#key-error")
        assert "true" == visit.page.get_by_label("Read key").get_attribute("aria-invalid")
        expect_refusals(visit)
        enter(visit, ALL_KEY)
        visit.settled()

        assert ask(url, ALL_KEY, "/summary")["users"] == visit.numbers("#tiles")[0]
        expect_refusals(visit)


def test_the_key_is_a_header_and_stays_in_the_tab(look: Look, url: str) -> None:
    """In no address, no cookie and no lasting storage; a reload keeps it, and it can be forgotten."""
    with look(url, settle=False) as visit:
        visit.page.wait_for_selector("#key-form:visible")
        enter(visit, ALL_KEY)
        visit.settled()
        visit.page.reload()
        visit.settled()
        assert {f"Bearer {ALL_KEY}"} == visit.keys
        assert not [asked for asked in visit.requests if ALL_KEY in asked]
        assert ALL_KEY not in visit.page.url
        assert [] == visit.page.context.cookies()
        assert ALL_KEY not in visit.page.evaluate("JSON.stringify(localStorage)")
        assert ALL_KEY not in visit.page.content()
        visit.page.get_by_role("button", name="Forget key").click()
        visit.page.wait_for_selector("#key-form:visible")

        assert ALL_KEY not in visit.page.evaluate("JSON.stringify(sessionStorage)")
        expect_refusals(visit)


@pytest.mark.parametrize("fragment", ["", f"#merchant={MERCHANTS[0]}"], ids=["plain", "another"])
def test_a_merchants_key_shows_that_merchant_and_no_other(look: Look, url: str, fragment: str) -> None:
    """Its tiles and users; no other's name and no ledger anywhere in the page, also where the address names another."""
    summary = ask(url, MERCHANT_KEY, "/summary")
    rows = ask(url, MERCHANT_KEY, "/?limit=25&sort=user_id")["rows"]
    with look(url, settle=False, fragment=fragment) as visit:
        visit.page.wait_for_selector("#key-form:visible")
        enter(visit, MERCHANT_KEY)
        visit.settled()
        assert [summary["users"], summary["sessions"], summary["mean_hours"]] == visit.numbers("#tiles")[:3]
        assert [row["user_id"] for row in rows] == visit.users()
        assert all(user.startswith("p-") for user in visit.users())
        assert [MERCHANT] == visit.texts("#scope option")
        assert visit.page.get_by_label("Merchant", exact=True).is_disabled()
        assert "Some" in visit.texts("#freshness dd"), "whether events are pending, not how many: those are everybody's"
        assert not visit.page.locator("#ledger").is_visible()
        assert not visit.page.locator("#merchants").is_visible()
        text = visit.page.evaluate("document.body.textContent")
        assert not [name for name in MERCHANTS if name != MERCHANT and name in text]
        shoot(visit, "merchant")
        expect_refusals(visit)


def test_a_key_that_is_taken_back_ends_the_look(look: Look, filled: Settings, serve_function: ServeFunction) -> None:
    """The next refresh asks for a key, and shows no numbers any more."""
    lines = {"FLYERTIME_READ_AUTH": "keys", "FLYERTIME_READ_KEYS": ReadKey("all", sha256_of(ALL_KEY)).line}
    with serve_function("report", filled, **lines) as process, look(process.url, settle=False) as visit:
        visit.page.wait_for_selector("#key-form:visible")
        enter(visit, ALL_KEY)
        visit.settled()
        visit.page.evaluate("sessionStorage.setItem('flyertime.read-key', 'ftr_old')")
        visit.page.get_by_role("button", name="Refresh").click()
        visit.page.wait_for_selector("#key-form:visible")

        assert not visit.page.locator("#report").is_visible()
        assert ["This key is not valid (any more)."] == visit.texts("#key-error")
        expect_refusals(visit)


@pytest.mark.parametrize(
    ("merchants", "offered"),
    [(["only"], ["All merchants", "only"]), (["..", ".", "a..b"], ["All merchants", "a..b"])],
    ids=["one", "dots"],
)
def test_who_reads_all_merchants_is_shown_all_of_them(
    look: Look, valkey: EmbeddedValkey, serve_function: ServeFunction, merchants: list[str], offered: list[str]
) -> None:
    """Also where there is but one, and where a browser would take a name for the way up, to other numbers."""
    settings = Settings(redis_url=valkey.url, namespace=f"page-{offered[-1]}", shards=1)
    store = ShardStore(settings)
    everywhere = {user.encode(): pack_totals(Totals(9 * 3600, 1, 1, 2)) for user in ("a", "b", "of-no-merchant")}
    there = {user.encode(): pack_totals(Totals(3600, 1, 1, 2)) for user in ("a", "b")}
    change = Change(0, 0, "", 0, True, {}, everywhere, {name.encode(): there for name in merchants})
    assert isinstance(store.commit(change), Committed)
    store.close()
    named = {"FLYERTIME_READ_AUTH": "keys", "FLYERTIME_READ_KEYS": ReadKey("all", sha256_of(ALL_KEY)).line}
    with (
        serve_function("report", settings, **named) as process,
        look(process.url, settle=False, fragment=f"#merchant={merchants[0]}") as visit,
    ):
        visit.page.wait_for_selector("#key-form:visible")
        enter(visit, ALL_KEY)
        visit.settled()
        scope = visit.page.get_by_label("Merchant", exact=True)
        assert offered == visit.texts("#scope option")
        assert scope.is_enabled()
        assert (2.0 if merchants == ["only"] else 3.0) == visit.numbers("#tiles")[0], "of one merchant, or of all"
        scope.select_option(label="All merchants")
        visit.until("document.querySelector('#tiles data').value === '3'")
        visit.settled()
        assert ["a", "b", "of-no-merchant"] == visit.users()
        scope.select_option(label=offered[-1])
        visit.until("document.querySelector('#tiles data').value === '2'")
        visit.settled()

        assert ["a", "b"] == visit.users()
        expect_refusals(visit)


@pytest.mark.parametrize("merchant", [None, MERCHANT], ids=["all", "partner"])
def test_a_small_group_is_said_to_be_one(
    look: Look, filled: Settings, serve_function: ServeFunction, merchant: str | None
) -> None:
    """Instead of charts, and of "no numbers yet"; each user stands in the table all the same."""
    named = {
        "FLYERTIME_READ_AUTH": "keys",
        "FLYERTIME_READ_KEYS": ReadKey("k", sha256_of(ALL_KEY), merchant).line,
        "FLYERTIME_PSEUDONYM_SECRET": SECRET,
        "FLYERTIME_MIN_GROUP_USERS": "1000",
    }
    with serve_function("report", filled, **named) as process, look(process.url, settle=False) as visit:
        visit.page.wait_for_selector("#key-form:visible")
        enter(visit, ALL_KEY)
        visit.settled()

        assert ["Too few users: numbers of so small a group are not shown."] == visit.texts("#distribution-chart")
        assert [] == visit.numbers("#tiles")
        assert 25 == len(visit.users())
        assert all(user.startswith("p-") == (merchant is not None) for user in visit.users())
        said = [] if merchant else ["Too few users: numbers of so small a group are not shown."]
        assert said == [text for text in visit.texts("#merchants-chart") if text]
        shoot(visit, f"small-{merchant or 'all'}")
        expect_refusals(visit)
