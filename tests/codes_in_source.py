"""The codes of refusals, read out of the source, to hold what is published equal to them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from tests.parsed_source import parsed

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parent.parent
REFUSALS = (
    "RequestRefusedError", "UnavailableError", "MisconfiguredError", "FlyertimeError", "problem_reply", "_refuse",
)  # fmt: skip
"""What is called with the code of a refusal."""


def imported(*names: str) -> set[Path]:
    """Return the files of modules of ours, and of all that they import."""
    found: set[Path] = set()

    def walk(name: str) -> None:
        for path in (ROOT / f"{name.replace('.', '/')}.py", ROOT / name.replace(".", "/") / "__init__.py"):
            if path.exists() and path not in found:
                found.add(path)
                for node in ast.walk(parsed(path)):
                    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("functions"):
                        walk(str(node.module))
                        for alias in node.names:
                            walk(f"{node.module}.{alias.name}")

    for name in names:
        walk(name)
    return found


def codes_in_source(function: str, makers: Iterable[str]) -> set[str]:
    """Return the codes with which these are called in what a function consists of; what is no literal is passed on."""
    codes: set[str] = set()
    for path in imported(f"functions.{function}.main", "functions.server", "functions.asgi"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in makers:
                    code = node.args[1 if name in {"problem_reply", "_refuse"} else 0]
                    if isinstance(code, ast.Constant):
                        codes.add(str(code.value))
                    else:
                        assert "e.code" == ast.unparse(code), f"{path}:{node.lineno}: write the code out"
    return codes


def rows_under(document: str, heading: str) -> list[list[str]]:
    """Return the cells of all tables' rows under a heading of a document in docs/, without their heads."""
    text = (ROOT / "docs" / document).read_text()
    section = text.partition(f"\n{heading}\n")[2].partition("\n#")[0]
    assert section, f"{document} has no {heading}"
    lines = section.splitlines()
    heads = {place for place, line in enumerate(lines) if line.startswith("|---")}
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for place, line in enumerate(lines)
        if line.startswith("|") and place not in heads and place + 1 not in heads
    ]


def codes_under(document: str, heading: str) -> set[str]:
    """Return the codes of the table under a heading; each stands there once, in the order of the alphabet."""
    codes = [cells[0].strip("`") for cells in rows_under(document, heading)]
    assert sorted(set(codes)) == codes
    return set(codes)
