"""The archive: all folded events as Parquet in a folder or an object store, a folder a shard and day.

``<uri>/<namespace>-<pipeline>/log/shard=0003/day=2026-11-24/<first>_<last>_….parquet``; history's parts are beside it
in ``history``. A file is complete when it has its name, and counts when the store has it on record.
"""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from functions.core import archive as naming
from functions.core import packing
from functions.core.addresses import without_credentials
from functions.core.archive import ArchivedFile
from functions.core.errors import FlyertimeError, UnavailableError
from functions.core.ledger import position_of
from spark.addresses import file_system_of, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from functions.core.ledger import ShardLedger

ROWS_A_GROUP: Final = 128 * 1024
"""Of a row group: what a reader has in memory at once."""
_LOCAL_SCHEMES: Final = ("", "file")


class MissingFileError(FlyertimeError):
    """A file that is on record is not there, or cannot be read."""


class Archive:
    """One pipeline's folder."""

    def __init__(self, uri: str, namespace: str, pipeline: str) -> None:
        self.shown = without_credentials(uri)
        scheme, separator, rest = uri.partition("://")
        self._local = not separator or scheme in _LOCAL_SCHEMES
        with self._errors("opened"):
            if self._local:
                self._files: Any = pa.fs.LocalFileSystem()
                root = str(Path(rest if separator else uri).absolute())
            else:
                called = f"FLYERTIME_ARCHIVE_URI {self.shown}"
                self._files, root = file_system_of(uri, code="bad_settings", called=called)
        self._root = f"{root.rstrip('/')}/{namespace}-{pipeline}"

    def write_log(
        self, ledger: ShardLedger, ids: Sequence[str], entries: Sequence[bytes], events: Mapping[str, pa.Array]
    ) -> ArchivedFile:
        """Write log entries, whose events come by column as well; return what a commit puts on record.

        Raises:
            UnavailableError: The file cannot be written.
        """
        counts = [packing.count_of(entry) for entry in entries]
        received_ms = np.repeat(np.array([position_of(entry_id)[0] for entry_id in ids], np.int64), counts)
        rows = dict(events)
        timestamp = rows.pop("timestamp_us").cast(pa.timestamp("us", "UTC"))
        received = pa.array(received_ms).cast(pa.timestamp("ms", "UTC"))
        table = pa.table({"timestamp": timestamp, **rows, "received_at": received})
        path = naming.log_path(ledger.shard, ids[0], ids[-1], ledger.commits, secrets.token_hex(4))
        size_bytes = self._write_table(path, table)
        return ArchivedFile(path, len(table), len(table), size_bytes, ids[0], ids[-1])

    def write_history(self, ledger: ShardLedger, backfill: str, spans: pa.Table) -> ArchivedFile:
        """Write a part of a backfill; return what a commit puts on record."""
        upto = int(spans["place"][-1].as_py())
        path = naming.history_path(ledger.shard, backfill, upto, ledger.commits, secrets.token_hex(4))
        events = int(spans["events"].to_numpy().sum())
        return ArchivedFile(path, len(spans), events, self._write_table(path, spans), backfill=backfill)

    def rewrite(
        self,
        files: Sequence[ArchivedFile],
        swaps: int,
        keep: Callable[[pa.Table], pa.Table] | None = None,
        path: str | None = None,
    ) -> ArchivedFile:
        """Write the rows of files of one folder, those that are kept, to one file, and return it; a group in memory.

        Raises:
            MissingFileError: One of them is not there.
            UnavailableError: The file cannot be written.
        """
        path = path or naming.swapped_path(files, swaps, secrets.token_hex(4))
        rows = events = 0
        with self._writer(path) as write:
            waiting: list[pa.Table] = []
            for file in files:
                for table in self.tables(file):
                    kept = keep(table) if keep else table
                    rows += len(kept)
                    events += int(kept["events"].to_numpy().sum()) if file.backfill else len(kept)
                    waiting.append(kept)
                    if sum(map(len, waiting)) >= ROWS_A_GROUP:
                        write(pa.concat_tables(waiting))
                        waiting = []
            if waiting:
                write(pa.concat_tables(waiting))
        first, last = files[0], files[-1]
        laid = max(file.laid for file in files)
        return ArchivedFile(path, rows, events, self.size_bytes(path), first.first, last.last, first.backfill, laid)

    def tables(self, file: ArchivedFile, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield a file's rows, a group at a time.

        Raises:
            MissingFileError: It is not there, or no Parquet.
        """
        with self._open(file.path) as parquet:
            for group in range(parquet.num_row_groups):
                yield parquet.read_row_group(group, columns=columns)

    def rows_of(self, file: ArchivedFile) -> int:
        """Return how many rows a file says it has.

        Raises:
            MissingFileError: It is not there, or no Parquet.
        """
        with self._open(file.path) as parquet:
            return int(parquet.metadata.num_rows)

    def paths(self, shard: int) -> list[str]:
        """Return all files in a shard's folders, those that are being written too."""
        found = []
        with self._errors("listed"):
            for folder in naming.shard_folders(shard):
                selector = pa.fs.FileSelector(f"{self._root}/{folder}", recursive=True, allow_not_found=True)
                infos = self._files.get_file_info(selector)
                found += [info.path[len(self._root) + 1 :] for info in infos if info.type == pa.fs.FileType.File]
        return found

    def size_bytes(self, path: str) -> int:
        """Return a file's size."""
        with self._errors("read"):
            return int(self._files.get_file_info(f"{self._root}/{path}").size or 0)

    def remove(self, paths: Sequence[str]) -> None:
        """Delete files; one that is not there is fine."""
        for path in paths:
            try:
                self._files.delete_file(f"{self._root}/{path}")
            except FileNotFoundError:
                continue
            except OSError as e:
                raise self._unavailable("deleted", e) from e

    def _write_table(self, path: str, table: pa.Table) -> int:
        with self._writer(path) as write:
            write(table)
        return self.size_bytes(path)

    @contextmanager
    def _writer(self, path: str) -> Iterator[Callable[[pa.Table], None]]:
        """Write a file, which has its name only when it is complete: renamed, or, on an object store, closed."""
        full = f"{self._root}/{path}"
        under = f"{full}.tmp" if self._local else full
        writer: pq.ParquetWriter | None = None

        def write(table: pa.Table) -> None:
            nonlocal writer
            if writer is None:
                writer = pq.ParquetWriter(sink, table.schema, compression="zstd", write_batch_size=ROWS_A_GROUP)
            writer.write_table(table, row_group_size=ROWS_A_GROUP)

        with self._errors("written"):
            if self._local:
                os.makedirs(os.path.dirname(full), exist_ok=True)  # noqa: PTH103, PTH120  # of an address, not of a Path
            with self._files.open_output_stream(under) as sink:
                try:
                    yield write
                finally:
                    if writer is not None:
                        writer.close()
            if self._local:
                _sync(under)
                os.replace(under, full)  # noqa: PTH105  # as above
                _sync(os.path.dirname(full))  # noqa: PTH120  # as above

    @contextmanager
    def _open(self, path: str) -> Iterator[pq.ParquetFile]:
        try:
            with self._files.open_input_file(f"{self._root}/{path}") as source, pq.ParquetFile(source) as parquet:
                yield parquet
        except FileNotFoundError as e:
            raise MissingFileError("archive_file_missing", f"{path} is on record, but not in {self.shown}") from e
        except pa.ArrowInvalid as e:
            raise MissingFileError("archive_file_damaged", f"{path} in {self.shown} cannot be read as Parquet") from e
        except OSError as e:
            raise self._unavailable("read", e) from e

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise self._unavailable(what, e) from e

    def _unavailable(self, what: str, error: OSError) -> UnavailableError:
        return UnavailableError("archive_unavailable", f"the archive {self.shown} cannot be {what}: {reason_of(error)}")


def _sync(path: str) -> None:
    """Make sure that a file, or what a folder names, outlives a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
