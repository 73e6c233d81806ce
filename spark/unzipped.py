"""PySpark from its folder rather than from the zips that Spark puts before it.

What stands in a zip is compiled anew by each process that imports it: half of what the workers' daemon took to start.
And each task of a worker drops what is known of the path (``importlib.invalidate_caches``), which for a zip means that
its directory is read again, there and then, in plain Python. Spark names three: PySpark's, py4j's, and its own jar,
of 5,261 entries and nothing in Python. That was nine tenths of what a small task took.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PACKAGES = {"pyspark": "pyspark", "py4j": "py4j", "spark-core_": "pyspark"}
"""What a zip is there for, by how its name begins."""


def unzipped(path: Iterable[str]) -> list[str]:
    """Return a path for imports without those of PySpark's zips whose package stands in a folder; the others last.

    A distribution of Spark has the folder beside its zip, as the images do, and py4j in a zip alone; pip's package has
    no folder there, both being on the path themselves.
    """
    folders: list[str] = []
    zips: dict[str, str] = {}
    for entry in path:
        file = Path(entry)
        begins = (name for name in _PACKAGES if file.suffix in {".zip", ".jar"} and file.name.startswith(name))
        package = _PACKAGES.get(next(begins, ""))
        if package is None:
            folders.append(entry)
            continue
        zips[entry] = package
        beside = file.parent.parent
        if file.parent.name == "lib" and _has(beside, "pyspark"):
            folders.append(str(beside))
    left = [entry for entry, package in zips.items() if not any(_has(Path(folder), package) for folder in folders)]
    return [*dict.fromkeys(folders), *left]


def leave_zips() -> None:
    """Import from here on by a path without the zips, and forget those that were looked into."""
    path = unzipped(sys.path)
    for entry in {*sys.path} - {*path}:
        sys.path_importer_cache.pop(entry, None)
    sys.path[:] = path


def _has(folder: Path, package: str) -> bool:
    return (folder / package / "__init__.py").exists()
