"""Backfill with Spark: every format, awkward rows, and the report equal to the plain computation."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import random
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from functions.adapters.redis_history import HistoryStore
from functions.adapters.redis_resharding import ReshardingStore
from functions.adapters.redis_shard import ShardStore
from functions.core.errors import MisconfiguredError, UnavailableError
from functions.core.events import Event
from functions.core.shards import shard_of
from functions.core.spans import pack_totals, spans_of, totals_of
from functions.core.timestamps import format_us, parse_us
from spark import progress
from spark.backfill import Backfilled, Source, backfill
from spark.history_rows import checked, parsed_us
from spark.resharding import reshard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pyspark.sql import SparkSession

    from functions.core.settings import Settings

pytestmark = [pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore::ResourceWarning")]  # PySpark's sockets

ROOT = Path(__file__).parent.parent.parent
NAMES = ("timestamp", "user_id", "event", "flyer_id", "merchant_id")
EVENTS = [
    Event(
        1_700_000_000_000_000 + number * 977_123_457,
        f"ü{number % 40}",
        ("flyer_open", "flyer_close", "list_open")[number % 3],
        ("f", "g", "")[number % 7 % 3],
        ("m", "n", "")[number % 5 % 3],
    )
    for number in range(400)
]


def rows_of(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Return events as a history file has them, timestamps as text."""
    return [dict(zip(NAMES, (format_us(event.timestamp_us), *event[1:]), strict=True)) for event in events]


def count(spark: SparkSession, settings: Settings, source: Source, **more: str) -> Backfilled:
    """Backfill."""
    return backfill(spark, settings, source, more.get("name"), more.get("rejects"), lambda: settings)


def write(folder: Path, kind: str) -> Source:
    """Write the events as history of some kind."""
    rows = rows_of(EVENTS)
    if kind == "json":
        for number, some in enumerate((rows[:100], rows[100:])):
            (folder / f"day={number}").mkdir()
            with gzip.open(folder / f"day={number}" / "part.json.gz", "wt") as file:
                file.writelines(json.dumps({"data": row, "more": [1]}) + "\n" for row in some)
        return Source(str(folder), "json", {name: f"data.{name}" for name in NAMES})
    if kind == "csv":
        with (folder / "history.csv").open("w", newline="") as file:
            writer = csv.writer(file, delimiter=";")
            writer.writerow(["when", "who", *NAMES[2:]])
            writer.writerows(list(row.values()) for row in rows)
        return Source(f"{folder}/*.csv", "csv", {"timestamp": "when", "user_id": "who"}, {"sep": ";"})
    moments = [event.timestamp_us for event in EVENTS]
    if kind == "parquet with timestamps":
        times, unit = pa.array(moments, pa.timestamp("us", "UTC")), None
    elif kind == "parquet with nanoseconds":
        times, unit = pa.array([moment * 1000 + 999 for moment in moments], pa.timestamp("ns")), "ns"
    else:
        times, unit = pa.array(moments), "us"
    columns = {name: [getattr(event, name) for event in EVENTS] for name in NAMES[1:]}
    for number, table in enumerate(
        (pa.table({"timestamp": times, **columns})[:150], pa.table({"timestamp": times, **columns})[150:])
    ):
        (folder / f"source=s{number}").mkdir()
        pq.write_table(table, folder / f"source=s{number}" / "part.parquet", compression="zstd")
    return Source(str(folder), "parquet", unit=unit)


@pytest.mark.parametrize(
    "kind", ["json", "csv", "parquet with timestamps", "parquet with numbers", "parquet with nanoseconds"]
)
def test_history_of_every_kind_is_counted_once_beside_the_log(
    spark: SparkSession,
    settings: Settings,
    tmp_path: Path,
    kind: str,
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
) -> None:
    """Files in folders, compressed, with other names and kinds of time; counted again, it changes nothing."""
    source = write(tmp_path, kind)
    fill_log(settings, [EVENTS[:5]])
    first, second = count(spark, settings, source), count(spark, settings, source)

    assert (400, 0, False) == (first.rows, first.rows_rejected, first.was_done)
    assert (400, True) == (second.rows, second.was_done)
    assert plain_report(EVENTS) == read_report(settings)


@pytest.mark.parametrize("lateness_s", [10**9, None], ids=["kept", "not kept"])
def test_history_has_all_totals_and_those_from_open_to_close_where_they_are_kept(
    spark: SparkSession, settings: Settings, tmp_path: Path, lateness_s: int | None
) -> None:
    """Overall, of every user: what the plain computation gives; without them spans are what is shuffled."""
    settings = (
        dataclasses.replace(settings, open_to_close="off")
        if lateness_s is None
        else dataclasses.replace(settings, lateness_s=lateness_s)
    )
    count(spark, settings, write(tmp_path, "parquet with timestamps"))
    store = ShardStore(settings)
    users = {user: shard_of(user, store.shards()) for user in {event.user_id for event in EVENTS}}
    stored = {user: store.averages(shard, [user.encode()])[0] for user, shard in users.items()}
    store.close()
    expected = spans_of(EVENTS, None if lateness_s is None else lateness_s * 1_000_000)

    assert {user: pack_totals(totals_of(spans)) for user, spans in expected.items()} == {
        user: value for user, value in stored.items() if value is not None
    }


def test_rows_that_are_no_events_go_to_a_folder_with_their_faults(
    spark: SparkSession, settings: Settings, tmp_path: Path
) -> None:
    """They are counted by fault and kept as they were; the others count."""
    good = rows_of(EVENTS[:10])
    bad = [
        {**good[0], "timestamp": "yesterday"},
        {**good[0], "timestamp": "9000-01-01T00:00:00Z"},
        {**good[0], "user_id": None, "event": None},
        {**good[0], "flyer_id": "f" * 1025},
    ]
    lines = [json.dumps(row) for row in good + bad]
    (tmp_path / "in.json").write_text("\n".join([*lines, "{no json"]) + "\n")
    done = count(spark, settings, Source(str(tmp_path / "in.json"), "json"), rejects=str(tmp_path / "rejects"))
    kept = [json.loads(line) for part in Path(done.rejects).glob("*.json") for line in part.read_text().splitlines()]

    assert (15, 5) == (done.rows, done.rows_rejected)
    faults = {"bad_timestamp", "in_the_future", "missing:user_id", "missing:event", "too_long:flyer_id", "not_a_record"}
    assert dict.fromkeys(faults, 1) == done.rejected
    assert {"yesterday"} == {row["timestamp"] for row in kept if row["faults"] == "bad_timestamp"}
    assert ["{no json"] == [row["_corrupt_record"] for row in kept if row["faults"] == "not_a_record"]


BAD = ["{no json"]
OTHERS = [json.dumps({**row, "event": "list_open"}) for row in rows_of(EVENTS[:9])]


@pytest.mark.parametrize(("lines", "rejected"), [([], 0), (BAD, 1), (OTHERS, 0)], ids=["empty", "bad", "others"])
def test_history_without_flyer_events_comes_to_its_end(
    spark: SparkSession, settings: Settings, tmp_path: Path, lines: list[str], rejected: int
) -> None:
    """Nothing is merged, and the rows are counted all the same."""
    (tmp_path / "in.json").write_text("".join(f"{line}\n" for line in lines))
    done = count(spark, settings, Source(str(tmp_path / "in.json"), "json"))

    assert (len(lines), rejected, 0, 0) == (done.rows, done.rows_rejected, done.flyer_events, done.commits)


def test_a_backfill_killed_after_its_last_commit_comes_to_its_end(
    spark: SparkSession,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
) -> None:
    """Before it is put on record as done: the next start counts nothing more, and says so."""

    class KilledError(Exception):
        pass

    def killed(*_: Any) -> None:
        raise KilledError

    source = write(tmp_path, "csv")
    with monkeypatch.context() as patch:
        patch.setattr(HistoryStore, "update_backfill", killed)
        with pytest.raises(KilledError):
            count(spark, settings, source)
    done = count(spark, settings, source)

    assert (400, 0, 0, False) == (done.rows, done.flyer_events, done.commits, done.was_done)
    assert plain_report(EVENTS) == read_report(settings)


@pytest.mark.parametrize("kind", ["json", "csv", "parquet"])
def test_what_the_names_of_folders_say_is_text(
    spark: SparkSession, settings: Settings, tmp_path: Path, kind: str
) -> None:
    """As any other field is, though it looks like a number; compressed files of every kind."""
    merchants = ["007", "1.50", "m n"]
    for number, merchant in enumerate(merchants):
        folder = tmp_path / "day=2023-11-14" / f"merchant_id={merchant}"
        folder.mkdir(parents=True)
        rows = [{name: row[name] for name in NAMES[:-1]} for row in rows_of(EVENTS[number:100:5])]
        if kind == "json":
            with gzip.open(folder / "part.json.gz", "wt") as file:
                file.writelines(f"{json.dumps(row)}\n" for row in rows)
        elif kind == "csv":
            with gzip.open(folder / "part.csv.gz", "wt", newline="") as file:
                writer = csv.DictWriter(file, NAMES[:-1])
                writer.writeheader()
                writer.writerows(rows)
        else:
            pq.write_table(pa.Table.from_pylist(rows), folder / "part.parquet", compression="snappy")
    done = count(spark, dataclasses.replace(settings, shards=1), Source(str(tmp_path), kind))
    store = ReshardingStore(settings)

    assert (60, 0) == (done.rows, done.rows_rejected)
    assert merchants == store.merchants_of(store.keys, 0)
    store.close()


def test_an_input_that_has_changed_since_is_told(spark: SparkSession, settings: Settings, tmp_path: Path) -> None:
    """Under one id there is one input; what else is wrong with it is told in a line too."""
    source = write(tmp_path, "csv")
    count(spark, settings, source, name="old")
    (tmp_path / "more.csv").write_text("when;who;event;flyer_id;merchant_id\n")

    with pytest.raises(MisconfiguredError, match=r"1 files, .* then; 2 files, .* now"):
        count(spark, settings, source, name="old")
    with pytest.raises(MisconfiguredError, match="was started with another input"):
        count(spark, settings, Source(str(tmp_path), "csv"), name="old")
    with pytest.raises(MisconfiguredError, match="no column 'timestamp' for timestamp; the input has when, who"):
        count(spark, settings, Source(source.uri, "csv", {}, {"sep": ";"}))
    with pytest.raises(MisconfiguredError, match="no such file"):
        count(spark, settings, Source(str(tmp_path / "nothing"), "csv"))


def test_an_input_that_changes_while_it_is_read_is_told(
    spark: SparkSession, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not put on record as done; an array of objects in one file is read, where the option says so."""
    rows = rows_of(EVENTS[:9])
    (tmp_path / "in.json").write_text(json.dumps(rows))

    monkeypatch.setattr(progress, "shown", lambda *_: nullcontext((tmp_path / "more.json").write_text("")))
    with pytest.raises(MisconfiguredError, match="changed while it was read"):
        count(spark, settings, Source(str(tmp_path), "json", options={"multiLine": "true"}), name="arrays")
    store = HistoryStore(settings)
    assert "started" == store.backfills()["arrays"]["state"]
    assert 6 == sum(store.ledger(shard).backfilled for shard in range(store.shards()))
    store.close()


def test_a_resharding_between_a_backfills_first_look_and_its_record_is_noticed(
    spark: SparkSession,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
) -> None:
    """From its record on a resharding waits for it; before that, users may have got other shards."""
    fill_log(settings, [EVENTS[:5]])
    settings = dataclasses.replace(settings, shards=None)
    store = ReshardingStore(settings)
    act = HistoryStore.register_backfill

    def late(self: HistoryStore, *arguments: Any) -> Any:
        monkeypatch.undo()
        reshard(settings, store, 3)
        return act(self, *arguments)

    monkeypatch.setattr(HistoryStore, "register_backfill", late)
    done = count(spark, settings, write(tmp_path, "csv"))

    assert (400, 3) == (done.rows, store.shards())
    assert plain_report([*EVENTS, *EVENTS[:5]]) == read_report(settings)
    store.close()


def test_a_backfill_that_a_resharding_overtakes_counts_nothing_and_all_of_it_later(
    spark: SparkSession,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
) -> None:
    """Put on record after the resharding had looked for such: the new shards have not counted it."""
    fill_log(settings, [EVENTS[:5]])
    settings = dataclasses.replace(settings, shards=None)
    store, source = ReshardingStore(settings), write(tmp_path, "csv")
    act = ReshardingStore.begin_generation

    def meanwhile(self: ReshardingStore) -> int:
        monkeypatch.undo()
        looks = iter([4])  # the first one came before the resharding began
        look = HistoryStore.lay_out
        with monkeypatch.context() as patch:
            patch.setattr(HistoryStore, "lay_out", lambda self: next(looks, None) or look(self))
            with pytest.raises(UnavailableError, match="being laid out with 3 shards"):
                count(spark, settings, source)
        return act(self)

    monkeypatch.setattr(ReshardingStore, "begin_generation", meanwhile)
    reshard(settings, store, 3)
    done = count(spark, settings, source)

    assert 400 == done.rows
    assert plain_report([*EVENTS, *EVENTS[:5]]) == read_report(settings)
    store.close()


def test_moments_are_read_as_ingest_reads_them(spark: SparkSession) -> None:
    """Whatever the text: the same microseconds, or none."""
    random_ = random.Random(1)
    texts = ["", "now", "2018-10-01", "2016-12-31T23:59:60Z", "2016-12-31T23:58:60Z", "2018-02-30T00:00:00Z"]
    texts += [
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59.999999Z",
        "2018-10-01T13:54:59Z\n",
        "2018-10-01T24:00:00Z",
    ]
    for _ in range(600):
        text = "{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}".format(
            random_.choice([0, 1, 1969, 1970, 2024, 9999]),
            *(random_.randint(0, 13), random_.randint(0, 32), random_.choice("Tt _"), random_.randint(0, 25)),
            *(random_.randint(0, 60), random_.randint(0, 61)),
        )
        text += random_.choice(["", ".5", ".123456", ".123456789", "."])
        texts.append(text + random_.choice(["", "Z", "z", "+05:30", "-23:59", "+18:00", "+17:59", "+24:00", "+0530"]))
    session = spark.newSession()
    session.conf.set("spark.sql.session.timeZone", "UTC")
    rows = session.createDataFrame([(text,) for text in texts], "text string")
    found = rows.select("text", parsed_us(rows.text).alias("us")).collect()

    def expected(text: str) -> int | None:
        try:
            return parse_us(text)
        except (ValueError, OverflowError):
            return None

    in_years = (-62_135_596_800_000_000, 253_402_300_799_999_999)
    shown = [us if us is not None and in_years[0] <= us <= in_years[1] else None for _, us in found]
    assert [expected(text) for text, _ in found] == shown


@pytest.mark.parametrize(
    ("unit", "moments"),
    [
        ("s", {1_700_000_000: 1_700_000_000_000_000, -1: -1_000_000, 2**63 - 1: None, 10**12: None}),
        ("ms", {1_700_000_000_001: 1_700_000_000_001_000, -(2**63): None}),
        ("us", {1_700_000_000_000_001: 1_700_000_000_000_001, 2**63 - 1: None}),
        ("ns", {1_700_000_000_000_001_999: 1_700_000_000_000_001, -1: -1, -1000: -1, -(2**63): None}),
    ],
)
def test_whole_numbers_are_what_their_unit_says(spark: SparkSession, unit: str, moments: dict[int, int | None]) -> None:
    """Floored to microseconds; what lies beyond all years, or beyond 64 bits, is a fault of its row alone."""
    schema = "timestamp long, user_id string, event string, flyer_id string, merchant_id string"
    rows = spark.createDataFrame([(number, "u", "flyer_open", "f", "m") for number in moments], schema)
    columns = {name: name for name in NAMES}
    found = checked(rows, columns, max_field_bytes=100, latest_us=None, unit=unit).collect()

    assert {number: ["bad_timestamp"] if us is None else us for number, us in moments.items()} == {
        int(row.timestamp): row.faults or row.moment_us for row in found
    }


def test_the_command_says_what_is_wrong_in_a_line() -> None:
    """--help lists formats and exit statuses; wrong arguments are status 2, before any JVM starts."""
    job = (sys.executable, "-m", "spark.main", "backfill")
    shown = subprocess.run([*job, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    wrong = subprocess.run(
        [*job, "--input", "x", "--format", "csv", "--column", "user_id"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "parquet,json,csv" in shown.stdout
    assert (2, True) == (wrong.returncode, "'user_id' is not NAME=VALUE" in wrong.stderr)
