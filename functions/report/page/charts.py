"""The page's charts, drawn here as SVG (pygal), so that the page needs no script for them.

What pygal would style and script inline is taken out, since the page's Content-Security-Policy allows neither: shapes
carry classes for the page's own style sheet, and attributes for those who show the picture by itself. Each bar's title
says its numbers, and the picture's says what it is; the page has the same numbers as a table beside it.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_WIDTH_PX: Final = 240
MAX_WIDTH_PX: Final = 2000
MIN_HEIGHT_PX: Final = 160
MAX_HEIGHT_PX: Final = 1000

_ROW_PX: Final = 30
_FRAME_PX: Final = 44
_CHARACTER_PX: Final = 7
_GAP_PX: Final = 12
"""Between two labels."""
_HEADROOM: Final = 1.12
"""How much longer an axis is than the longest bar, at whose end its value stands."""
_MAX_LABEL_CHARACTERS: Final = 18
_FONT_PX: Final = 12
_DIGITS: Final = 6
"""Of the values: its search for a scale fails on numbers next to nothing."""
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ANCHORS: Final = {"x": "middle", "y": "end"}
_ATTRIBUTES: Final = {
    "background": {"fill": "none"},
    "guide": {"fill": "none", "stroke": "currentColor", "stroke-opacity": "0.15"},
    "axis": {"fill": "none", "stroke": "currentColor", "stroke-opacity": "0.4"},
    "bar": {"fill": "#2f6fde"},
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: what stands at it, how long it is, and what it says in words."""

    label: str
    value: float
    words: str


def columns(title: str, bars: Sequence[Bar], width_px: int, height_px: int) -> bytes:
    """Return upright bars as SVG, labelled as densely as the width allows, with their values where there is room."""
    every = -(-len(bars) * _width_px([_shortened(bar.label) for bar in bars]) // width_px) if bars else 1
    return _draw(
        "Bar", title, bars, width_px, height_px, x_labels_major_every=every, show_minor_x_labels=False,
        print_values=len(bars) * _width_px([_number(bar.value) for bar in bars]) <= width_px,
    )  # fmt: skip


def rows(title: str, bars: Sequence[Bar], width_px: int) -> bytes:
    """Return lying bars as SVG, the first one on top, with their values."""
    height_px = _FRAME_PX + _ROW_PX * max(1, len(bars))
    return _draw("HorizontalBar", title, list(reversed(bars)), width_px, height_px, print_values=True)


def _width_px(labels: Sequence[str]) -> int:
    """Return what the longest takes, and some room beside it."""
    return max(map(len, labels), default=0) * _CHARACTER_PX + _GAP_PX


def _number(value: float) -> str:
    return f"{value:,g}"


def _draw(kind: str, title: str, bars: Sequence[Bar], width_px: int, height_px: int, **options: Any) -> bytes:
    values = [round(bar.value, _DIGITS) for bar in bars]
    chart = getattr(_pygal(), kind)(
        width=width_px, height=height_px, margin=4, spacing=6, show_legend=False, title=None,
        css=[], js=[], no_prefix=True, disable_xml_declaration=True, include_x_axis=True, min_scale=3, max_scale=6,
        rounded_bars=2, truncate_label=-1, print_values_position="top",
        range=(0, max(values, default=0) * _HEADROOM or 1),
        no_data_text="", formatter=_number,
        style=_pygal().style.Style(label_font_size=_FONT_PX, major_label_font_size=_FONT_PX), **options,
    )  # fmt: skip
    chart.x_labels = [_shortened(bar.label) for bar in bars]
    chart.add("", values)
    chart.add_xml_filter(lambda root: _cleaned(root, title, bars, "middle" if kind == "Bar" else "start"))
    return str(chart.render()).encode()


def _text(text: str) -> str:
    """Return a text that XML can hold: ids may be of any characters."""
    return _NOT_XML.sub("\ufffd", text)


@cache
def _pygal() -> Any:
    """Return pygal, imported where a picture is asked for (45 ms), without what it leaves in the way of later imports.

    That is a finder for its plug-ins, of a kind that Python 3.11 warns of at every import and 3.12 does not know.
    """
    import pygal  # noqa: PLC0415
    import pygal.style  # noqa: PLC0415

    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]
    return pygal


def _shortened(label: str) -> str:
    label = _text(label)
    return label if len(label) <= _MAX_LABEL_CHARACTERS else f"{label[: _MAX_LABEL_CHARACTERS - 1]}…"


def _cleaned(root: ET.Element, title: str, bars: Sequence[Bar], anchor_of_values: str) -> ET.Element:
    """Take out scripts, styles and what only pygal's script uses; give each bar its words."""
    for parent in list(root.iter()):
        for child in list(parent):
            overlay = "overlay" in child.get("class", "") and "text-overlay" not in child.get("class", "")
            if not isinstance(child.tag, str) or child.tag in {"defs", "title", "desc"} or overlay:
                parent.remove(child)
    drawn = [element for element in root.iter("rect") if "reactive" in element.get("class", "").split()]
    for element, bar in zip(drawn, bars, strict=True):
        element.set("class", "bar")
        ET.SubElement(element, "title").text = _text(bar.words)
    for element in root.iter():
        for name in element.get("class", "").split():
            for attribute, value in _ATTRIBUTES.get(name, {}).items():
                if element.tag in {"rect", "path"}:
                    element.set(attribute, value)
    for axis, anchor in _ANCHORS.items():
        for group in root.iterfind(".//g[@class]"):
            if group.get("class", "").split()[:2] == ["axis", axis]:
                for text in group.iter("text"):
                    text.set("text-anchor", anchor)
    for element in root.iter("text"):
        if element.get("class") == "value":
            element.set("text-anchor", anchor_of_values)
        element.set("fill", "currentColor")
        element.set("font-size", str(_FONT_PX))
        element.set("font-family", "system-ui, sans-serif")
    root.attrib.pop("id", None)
    root.set("role", "img")
    root.set("aria-label", title)
    heading = ET.Element("title")
    heading.text = title
    root.insert(0, heading)
    return root
