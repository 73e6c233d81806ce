"""The archive's files: their names, what is on record of each, and which of them are to be merged.

A file's name ends with what its record hung on: ``f`` and the shard's commits, for a file that a commit puts on record,
or ``s`` and the shard's swaps, for one that takes the place of others. Either number moves on with what it counts, so a
file with a smaller one that is not on record never will be: it is left over from something killed or overtaken.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from functions.core.ledger import position_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from functions.core.ledger import ShardLedger

FAN: Final = 32
"""Files of one day and shard that are worth merging, while the day goes on."""
TARGET_EVENTS: Final = 2_000_000
"""Files with as many are not merged further: about 60 MB."""

_HUNG_ON: Final = re.compile(r"_([fs])(\d+)_[0-9a-f]+\.parquet(\.tmp)?$")


class ArchivedFile(NamedTuple):
    """What is on record of a file."""

    path: str
    """Below the pipeline's folder."""
    rows: int = 0
    events: int = 0
    """Of log: one a row. Of history: flyer events, which its rows sum up."""
    size_bytes: int = 0
    first: str = ""
    """Id of the first log entry; empty where the file holds history."""
    last: str = ""
    backfill: str = ""
    """Id of the backfill; empty where the file holds log."""
    laid: int = 0
    """Generation of the resharding that wrote it: entries' ids may then overlap with those of other files."""

    @property
    def record(self) -> str:
        """What the store keeps by the path."""
        return json.dumps(
            {name: value for name, value in self._asdict().items() if name != "path" and value not in {"", 0}}
        )

    @classmethod
    def of_record(cls, path: str, record: str) -> ArchivedFile:
        """Return a file from what the store keeps."""
        return cls(path, **json.loads(record))

    @property
    def folder(self) -> str:
        """Shard and day, or shard and backfill: only files of one folder are merged."""
        return self.path.rpartition("/")[0]


def shard_folders(shard: int) -> tuple[str, str]:
    """Return where a shard's files are: those of its log, those of history."""
    return f"log/shard={shard:04d}", f"history/shard={shard:04d}"


def log_path(shard: int, first: str, last: str, commits: int, chance: str) -> str:
    """Return the name of a file of log entries, in the folder of the day (UTC) on which the first one was received."""
    moment = dt.datetime.fromtimestamp(position_of(first)[0] / 1000, dt.UTC)
    return f"{shard_folders(shard)[0]}/day={moment:%Y-%m-%d}/{first}_{last}_f{commits}_{chance}.parquet"


def history_path(shard: int, backfill: str, upto: int, commits: int, chance: str) -> str:
    """Return the name of a file of a backfill's part, which counts the shard's users up to a place."""
    folder = f"{shard_folders(shard)[1]}/backfill={quote(backfill, safe='')}"
    return f"{folder}/{upto:010d}_f{commits}_{chance}.parquet"


def swapped_path(files: Sequence[ArchivedFile], swaps: int, chance: str) -> str:
    """Return the name of the file that takes the place of some of one folder."""
    first, last = files[0], files[-1]
    stem = f"{first.first}_{last.last}" if first.first else first.path.rpartition("/")[2].partition("_")[0]
    return f"{first.folder}/{stem}_s{swaps}_{chance}.parquet"


def resharded_path(file: ArchivedFile, from_shard: int, to_shard: int, swaps: int, chance: str) -> str:
    """Return the name of the file that takes one shard's part of another's file."""
    folder, _, rest = swapped_path([file], swaps, chance).partition(f"/shard={from_shard:04d}/")
    return f"{folder}/shard={to_shard:04d}/{rest}"


def is_left_over(path: str, ledger: ShardLedger) -> bool:
    """Tell whether a file that is not on record, by the same look at the store as these books, never will be."""
    found = _HUNG_ON.search(path)
    if found is None:
        return False  # not ours
    return int(found[2]) < (ledger.commits if found[1] == "f" else ledger.swaps)


def in_order(files: Iterable[ArchivedFile]) -> list[ArchivedFile]:
    """Return the files of log in the log's order, then those of history."""
    return sorted(
        files, key=lambda file: (not file.first, position_of(file.first) if file.first else (0, 0), file.path)
    )


def merges_of(files: Iterable[ArchivedFile], today: str, *, everything: bool = False) -> list[list[ArchivedFile]]:
    """Return which log files to merge: each group into one file, all of one day, one after the other in the log.

    In the day that goes on groups of `FAN` and more, which make files several times as large as any of them, so that an
    event is written again only a few times, however small the files come in; in a day that is over two and more.

    Args:
        files: What is on record of one shard.
        today: As ``2026-11-24``.
        everything: Merge whatever is smaller than the target.
    """
    folders: dict[str, list[ArchivedFile]] = {}
    for file in in_order(file for file in files if file.first):
        folders.setdefault(file.folder, []).append(file)
    groups: list[list[ArchivedFile]] = []
    for folder, held in folders.items():
        least, growth = (2, 2) if everything or not folder.endswith(f"day={today}") else (FAN, FAN // 4)
        stretches: list[list[ArchivedFile]] = [[]]
        for file in held:
            if file.events < TARGET_EVENTS:
                stretches[-1].append(file)
            else:
                stretches.append([])
        for stretch in stretches:
            groups += [group for group in _groups_of(stretch, 0 if everything else growth) if len(group) >= least]
    return groups


def _groups_of(stretch: Sequence[ArchivedFile], growth: int) -> list[list[ArchivedFile]]:
    """Return a stretch in groups of about the target's size; without a beginning that would not grow so many times."""
    while stretch:
        largest = max(range(len(stretch)), key=lambda place: stretch[place].events)
        if growth * stretch[largest].events <= sum(file.events for file in stretch):
            break
        stretch = stretch[largest + 1 :]
    groups: list[list[ArchivedFile]] = [[]]
    events = 0
    for file in stretch:
        if groups[-1] and events + file.events > TARGET_EVENTS:
            groups.append([])
            events = 0
        groups[-1].append(file)
        events += file.events
    return groups
