"""Charts as SVG: what they say, and that nothing in them could run or be styled from within."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.report.page.charts import Bar, columns, rows

if TYPE_CHECKING:
    from collections.abc import Callable

SVG = "{http://www.w3.org/2000/svg}"
BARS = [Bar("0", 5, "0 to 1: 5 users"), Bar("1", 20, "1 to 2: 20 users"), Bar("2", 0, "2 to 3: 0 users")]


def columns_of(bars: list[Bar]) -> bytes:
    """Draw upright bars."""
    return columns("Users", bars, 640, 300)


def rows_of(bars: list[Bar]) -> bytes:
    """Draw lying bars."""
    return rows("Users", bars, 640)


def bars_in(svg: ET.Element) -> list[ET.Element]:
    """Return the rectangles that are bars."""
    return [element for element in svg.iter(f"{SVG}rect") if element.get("class") == "bar"]


@pytest.mark.parametrize(("draw", "side"), [(columns_of, "height"), (rows_of, "width")], ids=["columns", "rows"])
def test_a_bar_is_as_long_as_its_number_and_says_it(draw: Callable[[list[Bar]], bytes], side: str) -> None:
    """Lengths are in proportion to the values, and each bar's title has its words."""
    drawn = {bar.findtext(f"{SVG}title"): float(bar.get(side, 0)) for bar in bars_in(ET.fromstring(draw(BARS)))}  # noqa: S314  # ours

    assert {bar.words for bar in BARS} == set(drawn)
    assert pytest.approx(4) == drawn["1 to 2: 20 users"] / drawn["0 to 1: 5 users"]
    assert pytest.approx(0) == drawn["2 to 3: 0 users"]


def test_the_first_row_is_on_top() -> None:
    """Rows come in the order given, from top to bottom."""
    places = {bar.findtext(f"{SVG}title"): float(bar.get("y", "nan")) for bar in bars_in(ET.fromstring(rows_of(BARS)))}  # noqa: S314

    assert [bar.words for bar in BARS] == sorted(places, key=lambda words: places[words])


@example([("", 5e-324, "")])
@given(st.lists(st.tuples(st.text(max_size=40), st.floats(0, 1e15), st.text(max_size=40)), max_size=30))
def test_a_chart_is_well_formed_and_inert_whatever_the_ids_are(values: list[tuple[str, float, str]]) -> None:
    """Any text and number gives XML of shapes and text alone: no script, style, link, handler or outside address."""
    for draw in (columns_of, rows_of):
        svg = ET.fromstring(draw([Bar(*value) for value in values]))  # noqa: S314  # ours

        assert {element.tag.removeprefix(SVG) for element in svg.iter()} <= {
            "svg",
            "g",
            "rect",
            "path",
            "text",
            "title",
        }
        names = {name for element in svg.iter() for name in element.attrib}
        assert not {name for name in names if name.startswith("on") or "href" in name or name == "style"}
        assert len(values) == len(bars_in(svg))


def test_a_picture_says_what_it_is() -> None:
    """It is an image with a name, for those who do not see it."""
    svg = ET.fromstring(columns_of(BARS))  # noqa: S314  # ours

    assert ("img", "Users", "Users") == (svg.get("role"), svg.get("aria-label"), svg.findtext(f"{SVG}title"))


def test_a_long_name_is_cut_where_it_stands_beside_a_bar() -> None:
    """So that the bars keep their room; the bar's words have all of it."""
    name = "a merchant of a very long name"
    texts = [element.text for element in ET.fromstring(rows_of([Bar(name, 1, name)])).iter(f"{SVG}text")]  # noqa: S314

    assert "a merchant of a v…" in texts


def test_drawing_leaves_nothing_in_the_way_of_imports() -> None:
    """The library's finder, which Python warns of at each later import, is taken out again."""
    columns_of(BARS)

    assert [] == [finder for finder in sys.meta_path if type(finder).__module__.startswith("pygal")]
