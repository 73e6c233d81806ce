"""`flyertime report` against a live report: every format and filter as the report itself gives them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from functions.cli import main
from functions.cli_report import BINARY, FORMATS
from functions.core.access import sha256_of
from functions.core.read_access import ReadKey
from functions.local import fetching
from tests.report.conftest import empty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

    from functions.core.settings import Settings
    from tests.conftest import ServeFunction
    from tests.report.conftest import Put

KEY, MERCHANT_KEY = "ftr_all", "ftr_m1"
HOUR_S = 3600
USERS = {f"user-{number:02}": (HOUR_S * (number + 1), number % 3 + 1) for number in range(30)}
FEW = {"user-01": (HOUR_S, 1), "a/b ü": (2 * HOUR_S, 1)}


@pytest.fixture(scope="module")
def url(report_settings: Settings, serve_function: ServeFunction) -> Iterator[str]:
    """Address of a report that needs a key."""
    lines = (ReadKey("all", sha256_of(KEY)).line, ReadKey("m1", sha256_of(MERCHANT_KEY), "m1").line)
    environment = {"FLYERTIME_READ_AUTH": "keys", "FLYERTIME_READ_KEYS": " ".join(lines)}
    settings = dataclasses.replace(report_settings, pseudonyms="off")
    with serve_function("report", settings, **environment) as process:
        yield process.url


@pytest.fixture
def report(url: str, raw_redis: redis.Redis, put: Put) -> Callable[..., str]:
    """Return what runs the command on a filled report and gives its output."""
    empty(raw_redis)
    put({**USERS, "a/b ü": (2 * HOUR_S, 1)}, {"m1": FEW, "m2": USERS})

    def run(*arguments: str, key: str = KEY, exit_code: int = 0) -> str:
        done = CliRunner().invoke(main, ["report", "--from", url, *arguments], env={"FLYERTIME_READ_KEY": key})
        assert exit_code == done.exit_code, done.output
        return done.output

    return run


def test_a_table_has_a_head_and_a_row_for_each_user(report: Callable[..., str]) -> None:
    """Hours with two digits; with a limit it says that there are more."""
    lines = report("--sort=-hours", "--limit", "2").splitlines()

    assert ["user_id", "avg_time_on_flyer_per_user_hours"] == lines[0].split()
    assert [["user-27", "28.00"], ["user-24", "25.00"]] == [line.split() for line in lines[2:4]]
    assert "… and more" in lines[4]


def test_a_table_of_many_pages_is_whole(report: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The next pages are asked for until there is none, or the limit is reached."""
    monkeypatch.setattr(fetching, "PAGE_ROWS", 7)

    assert sorted([*USERS, "a/b ü"]) == sorted(
        line[3:].rpartition("  ")[0].strip() for line in report().splitlines()[2:]
    )
    assert 20 == len(json.loads(report("--json", "--limit", "20")))


@pytest.mark.parametrize(
    ("arguments", "users"),
    [
        (("--prefix", "user-0", "--min-sessions", "3"), ["user-02", "user-05", "user-08"]),
        (("--min-hours", "25"), ["user-24", "user-27"]),
        (("--min-hours", "0.0000001", "--max-hours", "1"), ["user-00", "user-01", "user-02"]),
        (("--sort=-hours", "--limit", "3"), ["user-21", "user-24", "user-27"]),
        (("--max-hours", "1.0"), ["user-00", "user-01", "user-02"]),
        (("--merchant", "m1"), sorted(FEW)),
    ],
    ids=str,
)
@pytest.mark.parametrize("wanted", FORMATS)
def test_filters_hold_in_every_format(
    report: Callable[..., str], tmp_path: Path, arguments: tuple[str, ...], users: list[str], wanted: str
) -> None:
    """As the report has them: printed, and in a file."""
    path = tmp_path / "users"
    said = report(*arguments, "--format", wanted, "--output", str(path))

    assert users == sorted(row["user_id"] for row in rows_in(path, wanted))
    assert "user-" not in said
    if wanted not in BINARY:
        said = report(*arguments, "--format", wanted)
        assert path.read_text().split() == [word for word in said.split() if word not in {"…", "and", "more"}]


def rows_in(path: Path, wanted: str) -> list[dict[str, Any]]:
    """Read a table, with its format's own reader."""
    body = path.read_bytes()
    match wanted:
        case "table":
            return [{"user_id": line[3:].rpartition("  ")[0].strip()} for line in body.decode().splitlines()[2:]]
        case "json":
            rows: list[dict[str, Any]] = json.loads(body)
        case "ndjson":
            rows = [json.loads(line) for line in body.splitlines()]
        case "csv":
            rows = list(csv.DictReader(io.StringIO(body.decode(), newline="")))
        case "arrow":
            rows = pa.ipc.open_stream(body).read_all().to_pylist()
        case _:
            rows = pq.read_table(io.BytesIO(body)).to_pylist()
    return rows


@pytest.mark.parametrize("wanted", FORMATS[1:])
def test_merchants_and_one_user_come_in_every_format(report: Callable[..., str], tmp_path: Path, wanted: str) -> None:
    """Under the report's own column names."""
    path = tmp_path / "rows"
    report("--merchants", "--format", wanted, "--output", str(path))
    assert [("m1", 2), ("m2", 30)] == [(row["merchant_id"], int(row["users"])) for row in rows_in(path, wanted)]
    report("--user", "user-01", "--fields", "sessions,user_id", "--format", wanted, "--output", str(path))
    assert "--sort is for tables of users" in report("--user", "user-01", "--sort", "hours", exit_code=2)
    one = [json.loads(path.read_text())] if wanted == "json" else rows_in(path, wanted)

    assert [[("sessions", "2"), ("user_id", "user-01")]] == [
        [(name, str(value)) for name, value in row.items()] for row in one
    ]


def test_one_user_by_any_id(report: Callable[..., str]) -> None:
    """A row of its own."""
    assert {"user_id": "a/b ü", "avg_time_on_flyer_per_user_hours": 2.0} == json.loads(
        report("--user", "a/b ü", "--json")
    )
    assert "no two events" in report("--user", "nobody", exit_code=2)


def test_merchants_side_by_side_and_the_summary(report: Callable[..., str]) -> None:
    """A table of merchants; a few numbers as JSON."""
    assert ["m1", "m2"] == [line.split()[0] for line in report("--merchants").splitlines()[2:]]
    assert len(FEW) == json.loads(report("--merchant", "m1", "--summary"))["users"]


def test_a_merchants_key_prints_that_merchant_alone(report: Callable[..., str]) -> None:
    """And is refused another one, in a line."""
    assert set(FEW) == {row["user_id"] for row in json.loads(report("--json", key=MERCHANT_KEY))}
    assert "another merchant" in report("--merchant", "m2", key=MERCHANT_KEY, exit_code=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--merchant", ""), "--merchant is the name of one"),
        (("--merchant", "", "--summary"), "--merchant is the name of one"),
        (("--summary", "--format", "csv"), "--summary is JSON, and --format csv is not"),
        (("--json", "--format", "parquet"), "--json is JSON, and --format parquet is not"),
        (("--prefix", "\udcff"), "--prefix is not UTF-8"),
        (("--user", "\udcff"), "--user is not UTF-8"),
        (("--from", "127.0.0.1:8083"), "--from is an address such as http"),
        (("--from", "ftp://host"), "--from is an address such as http"),
        (("--from", "http://[::1"), "--from is an address such as http"),
        (("--from", "http://host/?key=ftr_hunter2"), "the key goes into FLYERTIME_READ_KEY"),
        (("--from", "http://host/#ftr_hunter2"), "the key goes into FLYERTIME_READ_KEY"),
        (("--key", "ftr_hunter2\u00fc"), "characters that are in no key"),
        (("--key", "ftr_hunter2\nx"), "characters that are in no key"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_said_so_in_a_line(
    report: Callable[..., str], arguments: tuple[str, ...], words: str
) -> None:
    """Which option, what would be right, and nothing of a key; no other question is answered in its place."""
    said = report(*arguments, exit_code=2)

    assert words in said
    assert "hunter2" not in said
    assert "m1" not in said


def test_a_password_in_the_address_is_sent_and_not_shown(report: Callable[..., str], url: str) -> None:
    """As a gateway in front may want it; the report takes it for the key."""
    host = url.removeprefix("http://")

    assert [] == json.loads(report("--json", "--prefix", "none", "--from", f"http://me:{KEY}@{host}", key=""))
    for address in (f"http://me:hunter2@{host}", "http://me:hunter2@127.0.0.1:1"):
        done = CliRunner().invoke(main, ["report", "--from", address])
        assert done.exit_code != 0
        assert "hunter2" not in done.output
        assert "127.0.0.1" in done.output


def test_a_key_from_a_file_may_end_in_a_new_line(report: Callable[..., str]) -> None:
    """As most files do."""
    assert set(FEW) == {row["user_id"] for row in json.loads(report("--json", key=f"{MERCHANT_KEY}\n"))}


def test_a_wrong_key_is_said_so_and_not_repeated(report: Callable[..., str]) -> None:
    """What to send stands in the line."""
    said = report(key="ftr_wrong", exit_code=2)

    assert "not valid" in said
    assert "FLYERTIME_READ_KEY" in said
    assert "ftr_wrong" not in said
