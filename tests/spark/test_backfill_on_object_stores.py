"""History in an object store, over HTTP: counted as the same files in a folder are, with nothing but Arrow.

The servers are those of the archive's tests; FLYERTIME_TEST_ARCHIVE_URI names a folder of another store.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from functions.adapters.redis_history import HistoryStore
from functions.core.errors import MisconfiguredError, UnavailableError
from functions.core.events import Event
from functions.core.settings import Settings
from functions.core.timestamps import format_us
from functions.local.valkey import free_port
from spark import progress
from spark.addresses import ObjectAddress
from spark.backfill import Backfilled, Source, backfill
from spark.history_input import files_of
from tests.killing_at_commits import family, kill_at
from tests.spark.object_stores import S3Server, upload, within
from tests.spark.test_history_jobs import command, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyspark.sql import SparkSession

    from tests.conftest import MakeServer

    Read = Callable[[Settings], dict[str, float]]
    Plain = Callable[[Iterable[Event]], dict[str, float]]

pytestmark = [pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore::ResourceWarning")]  # PySpark's sockets

NAMES = ("timestamp", "user_id", "event", "flyer_id", "merchant_id")
EVENTS = [
    Event(
        1_700_000_000_000_000 + number * 977_123_457,
        f"ü{number % 40}",
        ("flyer_open", "flyer_close", "list_open")[number % 3],
        f'f;"{number % 3}"',
        ("007", "1.50")[number % 2],
    )
    for number in range(400)
]


def write(folder: Path, kind: str) -> Source:
    """Write the events, and rows that are none, to folders that name merchants; return what reads them there."""
    for merchant in ("007", "1.50"):
        events = [event for event in EVENTS if event.merchant_id == merchant]
        rows: list[dict[str, Any]] = [
            dict(zip(NAMES[:-1], (format_us(event.timestamp_us), *event[1:4]), strict=True)) for event in events
        ]
        rows += [{**rows[0], "timestamp": "yesterday"}, {**rows[0], "flyer_id": "f" * 1025}]
        below = folder / "day=2023-11-14" / f"merchant_id={merchant}"
        below.mkdir(parents=True)
        (below / "_SUCCESS").touch()
        if kind == "json":
            lines = "".join(f"{json.dumps({'data': row})}\n" for row in rows).encode()
            (below / "a.json.gz").write_bytes(gzip.compress(lines + b"{no json\n"))
            (below / "b.json").write_bytes(b'{"data":{"user_id":"\xff"}}\r\n')
        elif kind == "csv":
            text = io.StringIO()
            writer = csv.writer(text, delimiter=";")
            writer.writerow(["when", "who", "event", "flyer_id"])
            writer.writerows(row.values() for row in rows)
            (below / "a.csv").write_text(text.getvalue() + "too;few\n")
            (below / "b.csv.gz").write_bytes(gzip.compress(b"when;who;event;flyer_id\n2023-11-14;\xff;e;f\n"))
        else:
            table = pa.Table.from_pylist([{**row, "user_id": row["user_id"].encode()} for row in rows])
            pq.write_table(table[:150], below / "a.parquet", row_group_size=40)
            broken = [*table[150:].to_pylist(), {**rows[0], "user_id": b"\xff"}, {**rows[0], "user_id": None}]
            pq.write_table(pa.Table.from_pylist(broken, table.schema), below / "b.parquet")
    columns = {name: f"data.{name}" for name in NAMES[:-1]} if kind == "json" else {}
    columns = {"timestamp": "when", "user_id": "who"} if kind == "csv" else columns
    return Source("day=*", kind, columns, {"sep": ";"} if kind == "csv" else {})


def count(
    spark: SparkSession, settings: Settings, source: Source, uri: str, rejects: str | None = None, name: str = "old"
) -> Backfilled:
    """Backfill what a source has at an address."""
    at = Source(uri, source.format, source.columns, source.options)
    return backfill(spark, settings, at, name, rejects, lambda: settings)


def counted(done: Backfilled) -> tuple[Any, ...]:
    """Return what was counted."""
    return (done.rows, done.rows_rejected, done.rejected, done.flyer_events, done.users)


def written_to(uri: str) -> list[dict[str, Any]]:
    """Return the rows in a folder of an object store."""
    address = ObjectAddress.parse(uri)
    file_system = address.open()
    selector = pa.fs.FileSelector(f"{address.bucket}/{address.path}", recursive=True)
    files = [info for info in file_system.get_file_info(selector) if info.type == pa.fs.FileType.File]
    assert all(info.base_name.startswith("part-") for info in files)
    texts = (file_system.open_input_stream(info.path, compression=None).read().decode() for info in files)
    return [json.loads(line) for text in texts for line in text.splitlines()]


@pytest.fixture
def other_settings(settings: Settings) -> Settings:
    """Another pipeline's."""
    return Settings(redis_url=settings.redis_url, namespace=f"{settings.namespace}other")


@pytest.mark.parametrize("kind", ["parquet", "json", "csv"])
def test_history_there_is_counted_as_the_same_files_in_a_folder_are(
    spark: SparkSession,
    settings: Settings,
    other_settings: Settings,
    object_folder: str,
    tmp_path: Path,
    kind: str,
    read_report: Read,
    plain_report: Plain,
) -> None:
    """Report, counts and faults, and the rejected rows, which go there too; once, whatever the secret is now."""
    source = write(tmp_path / "in", kind)
    upload(tmp_path / "in", within(object_folder, "in"))
    local = count(spark, other_settings, source, f"{tmp_path}/in", str(tmp_path / "rejects"))
    there = count(spark, settings, source, within(object_folder, "in"), within(object_folder, "rejects"))
    rows = [json.loads(line) for part in Path(local.rejects).glob("*.json") for line in part.read_text().splitlines()]

    assert counted(local) == counted(there)
    assert there.rows_rejected >= 6
    assert plain_report(EVENTS) == read_report(settings) == read_report(other_settings)
    assert sorted(map(repr, rows)) == sorted(map(repr, written_to(within(object_folder, "rejects/old"))))
    assert there.rejects.endswith("/rejects/old")
    assert "@" not in there.rejects
    again = count(spark, settings, source, within(object_folder, "in"))
    assert (True, there.rejects) == (again.was_done, again.rejects)


def test_rejected_rows_take_the_place_of_those_that_an_earlier_start_wrote(
    spark: SparkSession, settings: Settings, object_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped before its end; a pattern names the input."""

    class KilledError(Exception):
        pass

    def killed(*_: Any) -> None:
        raise KilledError

    source = write(tmp_path / "in", "json")
    (tmp_path / "rejects" / "old").mkdir(parents=True)
    (tmp_path / "rejects" / "old" / "part-99999.json").write_text("{}\n")
    upload(tmp_path / "in", within(object_folder, "in"))
    upload(tmp_path / "rejects", within(object_folder, "rejects"))
    uri, rejects = within(object_folder, "in/day=*"), within(object_folder, "rejects")
    with monkeypatch.context() as patch:
        patch.setattr(HistoryStore, "update_backfill", killed)
        with pytest.raises(KilledError):
            count(spark, settings, source, uri, rejects)
    first = written_to(within(object_folder, "rejects/old"))
    done = count(spark, settings, source, uri, rejects)

    assert (0, False) == (done.flyer_events, done.was_done)
    assert done.rows_rejected == len(first) == len(written_to(within(object_folder, "rejects/old")))
    assert {"007", "1.50"} == {row["merchant_id"] for row in first}


def test_files_that_are_others_than_at_the_first_start_are_noticed(
    spark: SparkSession, settings: Settings, object_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two starts, and while they are read; what is on record has no secret."""
    source = write(tmp_path / "in", "parquet")
    upload(tmp_path / "in", object_folder)
    files = files_of(spark, object_folder)
    count(spark, settings, source, object_folder)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x.parquet").write_bytes(b"more")
    upload(tmp_path / "more", within(object_folder, "day=2023-11-14/merchant_id=007"))

    with pytest.raises(MisconfiguredError, match=r"4 files, \d+ bytes then; 5 files"):
        count(spark, settings, source, object_folder)
    ObjectAddress.parse(object_folder).open().delete_file(next(iter(places(object_folder, "x.parquet"))))
    assert files == files_of(spark, object_folder)

    def late(*_: Any) -> nullcontext[None]:
        upload(tmp_path / "more", within(object_folder, "day=2023-11-14/merchant_id=007"))
        return nullcontext()

    monkeypatch.setattr(progress, "shown", late)
    with pytest.raises(MisconfiguredError, match=r"//\S+ changed while it was read") as caught:
        count(spark, settings, source, object_folder, name="new")
    store = HistoryStore(settings)
    records = store.backfills()
    store.close()
    assert ["done", "started"] == [records[name]["state"] for name in ("old", "new")]
    assert "@" not in caught.value.message + json.dumps(records)


def places(uri: str, name: str) -> list[str]:
    """Return the files of a name in a folder."""
    address = ObjectAddress.parse(uri)
    selector = pa.fs.FileSelector(f"{address.bucket}/{address.path}", recursive=True)
    return [info.path for info in address.open().get_file_info(selector) if info.base_name == name]


def test_the_same_history_under_another_key_is_the_same_backfill(s3: S3Server) -> None:
    """The default id has nothing of the secret; it has all that names another input."""
    one, other = (Source(s3.uri("x", key=key, secret="s"), "csv") for key in ("a", "b"))

    assert one.digest == other.digest
    assert one.digest != Source(s3.uri("y"), "csv").digest
    assert Source("s3a://b/x?region=a", "csv").digest != Source("s3a://b/x?region=b", "csv").digest


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"bucket": "other"}, "s3a://other/x: no such bucket"),
        ({"secret": "no-such-secret"}, r"s3a://bucket/x cannot be listed: .*SIGNATURE_DOES_NOT_MATCH"),
        ({"key": "NOSUCHKEY"}, r"s3a://bucket/x cannot be listed: .*INVALID_ACCESS_KEY_ID"),
        ({}, "s3a://bucket/x: no such file or folder, or nothing in it"),
    ],
    ids=["bucket", "secret", "key", "nothing"],
)
def test_s3_that_refuses_says_why_and_shows_no_secret(
    spark: SparkSession, settings: Settings, s3: S3Server, given: dict[str, str], reason: str
) -> None:
    """Nothing is on record then."""
    with pytest.raises(MisconfiguredError, match=f"^{reason}") as caught:
        count(spark, settings, Source("", "csv"), s3.uri("x", **given))
    for hidden in (s3.key, s3.secret, "no-such-secret", "NOSUCHKEY"):
        assert hidden not in str(caught.value)
    store = HistoryStore(settings)
    assert {} == store.backfills()
    store.close()


def test_google_storage_that_does_not_answer_is_told(spark: SparkSession, settings: Settings) -> None:
    """The same start may succeed later; where rejected rows go is looked at before the work."""
    away = f"gs://anonymous@bucket/x?endpoint_override=127.0.0.1:{free_port()}&scheme=http&retry_limit_seconds=1"
    with pytest.raises(UnavailableError, match=r"^gs://bucket/x cannot be listed"):
        count(spark, settings, Source("", "csv"), away)
    with pytest.raises(MisconfiguredError, match=r"^s3a://b/x is no address that can be opened"):
        count(spark, settings, Source("", "csv"), away, rejects="s3a://b/x?nonsense=1")


@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_a_backfill_killed_at_a_commit_counts_once(
    make_server: MakeServer,
    s3: S3Server,
    tmp_path: Path,
    kind: str,
    read_report: Read,
    plain_report: Plain,
) -> None:
    """All of it, with SIGKILL, between two commits; the command's lines, its log and its record have no secret."""
    source = write(tmp_path / "in", kind)
    uri = s3.uri(f"killed/{kind}")
    upload(tmp_path / "in", uri)
    with make_server({"appendfsync": "always"}) as server:
        settings = Settings(redis_url=server.url)
        named = [f"--column={field}={name}" for field, name in source.columns.items()]
        job = command("backfill", "--input", uri, "--format", kind, "--rejects", s3.uri(f"rejects/{kind}"), *named)
        process = kill_at(job, settings, server, 3, "before", family)
        done = run(job, settings)

        assert process.returncode < 0
        assert (0, True) == (done.returncode, "rows taken                400" in done.stdout), done.stderr
        assert plain_report(EVENTS) == read_report(settings)
        store = HistoryStore(settings)
        said = done.stdout + done.stderr + json.dumps(store.backfills())
        store.close()
    assert f"rejected rows are in s3a://bucket/rejects/{kind}/" in done.stdout
    assert written_to(s3.uri(f"rejects/{kind}"))
    for hidden in (s3.key, s3.secret):
        assert hidden not in said


def test_a_task_that_cannot_read_ends_the_command_with_a_line_and_without_a_secret(
    settings: Settings, s3: S3Server, tmp_path: Path
) -> None:
    """What it says comes from a worker, through all that Spark logs."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text(",".join(NAMES) + "\nx,u,e,f,m\n")
    (tmp_path / "in" / "b.csv").write_text("other\n")
    upload(tmp_path / "in", s3.uri("broken"))
    done = run(command("backfill", "--input", s3.uri("broken"), "--format", "csv"), settings)

    assert 1 == done.returncode
    assert "MisconfiguredError: bucket/broken/b.csv has the header other, the first file timestamp," in done.stderr
    for hidden in (s3.key, s3.secret):
        assert hidden not in done.stdout + done.stderr
