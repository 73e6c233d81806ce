"""PySpark from its folder rather than from the zip that Spark puts before it.

What stands in a zip is compiled anew by each process that imports it: half of what the workers' daemon took to start.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_ZIPS = ("pyspark", "py4j")


def unzipped(path: Iterable[str]) -> list[str]:
    """Return a path for imports with PySpark's zips at its end, and in their place the folder beside them.

    A distribution of Spark has one, as the images do; pip's package has not, being on the path itself.
    """
    folders: list[str] = []
    zips: list[str] = []
    for entry in path:
        file = Path(entry)
        if file.suffix == ".zip" and file.name.startswith(_ZIPS):
            zips.append(entry)
            if file.parent.name == "lib" and (file.parents[1] / "pyspark" / "__init__.py").exists():
                folders.append(str(file.parents[1]))
        else:
            folders.append(entry)
    return [*dict.fromkeys(folders), *zips]
