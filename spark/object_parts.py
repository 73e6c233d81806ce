"""How the files of an object store are shared out among Spark's tasks: in parts of bytes, several to a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from functions.core.errors import MisconfiguredError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spark.object_files import Folders, ObjectFile

MOST_BYTES: Final = 64 * 1024 * 1024
"""Of a part; a file is cut where it has more."""
LEAST_BYTES: Final = 4 * 1024 * 1024
"""Of a part of a file that is cut; what opening a file costs is reckoned as this too, as Spark does."""
CODECS: Final = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
"""Ends of names to compressions of Arrow's."""
_UNREADABLE: Final = (".snappy", ".deflate", ".lzo", ".xz", ".zip", ".br", ".7z")


class Part(NamedTuple):
    """Some bytes of a file: what begins there belongs to the part, row groups or lines."""

    path: str
    start: int
    end: int
    codec: str | None = None
    """Where the file is compressed; then the part is all of it."""


class Task(NamedTuple):
    """What one of Spark's tasks reads."""

    parts: tuple[Part, ...]
    folders: Folders
    """Of all its files."""


def tasks_of(files: Sequence[ObjectFile], parallelism: int, *, texts: bool, whole: bool = False) -> list[Task]:
    """Share out files: tasks of about the same size, and files of other folders to other tasks.

    Args:
        files: In their order.
        parallelism: How many tasks go on at once.
        texts: Files may be compressed, which their names tell.
        whole: No file may be cut.

    Raises:
        MisconfiguredError: One is compressed in a way that nothing here reads.
    """
    total = sum(file.size_bytes for file in files)
    part_bytes = min(MOST_BYTES, max(LEAST_BYTES, -(-total // max(1, parallelism))))
    tasks: list[Task] = []
    parts: list[Part] = []
    folders, cost = files[0].folders, 0
    for file in files:
        codec = _codec_of(file.path) if texts else None
        step = file.size_bytes if codec or whole else part_bytes
        for start in range(0, file.size_bytes, max(1, step)):
            end = min(start + step, file.size_bytes)
            if parts and (file.folders != folders or cost + end - start > MOST_BYTES):
                tasks.append(Task(tuple(parts), folders))
                parts, cost = [], 0
            folders = file.folders
            parts.append(Part(file.path, start, end, codec))
            cost += end - start + LEAST_BYTES
            if cost >= part_bytes + LEAST_BYTES:
                tasks.append(Task(tuple(parts), folders))
                parts, cost = [], 0
    return [*tasks, Task(tuple(parts), folders)] if parts or not tasks else tasks


def _codec_of(path: str) -> str | None:
    name = path.lower()
    if name.endswith(_UNREADABLE):
        raise MisconfiguredError(
            "bad_input", f"{path} is compressed in a way that is not read: {', '.join(CODECS)} are"
        )
    return next((codec for end, codec in CODECS.items() if name.endswith(end)), None)
