"""What docs/bi.md says of data tools is so: its snippets run as they stand, and all libraries read the same numbers."""

from __future__ import annotations

import io
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import httpx2
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from functions.core.access import sha256_of
from functions.core.read_access import ReadKey
from functions.core.report_columns import USER_COLUMNS
from tests.report.conftest import NAMESPACE, empty
from tests.report.data_tools import READERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from functions.core.settings import Settings
    from tests.conftest import ServeFunction
    from tests.report.conftest import Put

DOCUMENT = (Path(__file__).parents[2] / "docs" / "bi.md").read_text()
SNIPPETS = re.findall(
    r"^<!-- runs(?: after \w+| with \w+)? -->\n```(sh|python)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL
)
SHELL = [code for language, code in SNIPPETS if language == "sh"]
PYTHON = [code for language, code in SNIPPETS if language == "python"]
HTTPFS = Path(sys.prefix) / "httpfs"
"""Another DuckDB, and its extension, which `make test` installs there."""
SHILLELAGH = Path(sys.prefix) / "shillelagh"
"""What Superset asks by SQL over HTTP with, which `make test` installs there."""
KEY = "ftr_bi"
FIRST_US = 1_772_438_400_000_000
USERS = ["ann", "Bob", "ünï 😀", 'a "b", c', "NA", "null", "007", "1e5", *(f"user-{number}" for number in range(2500))]
COLUMNS = ["avg_time_on_flyer_per_user_hours", "sessions", "total_seconds", "closed_sessions", "unclosed_opens"]


@pytest.fixture(scope="module")
def url(report_settings: Settings, serve_function: ServeFunction) -> Iterator[str]:
    """Address of a report that needs a key."""
    assert NAMESPACE == report_settings.namespace
    line = ReadKey("bi", sha256_of(KEY)).line
    with serve_function(
        "report", report_settings, FLYERTIME_READ_AUTH="keys", FLYERTIME_READ_KEYS=line
    ) as process:  # fmt: skip
        yield process.url


@pytest.fixture
def rows(url: str, raw_redis: redis.Redis, put: Put) -> list[dict[str, Any]]:
    """What the report says in JSON, of users with ids that tools like to take for something else."""
    empty(raw_redis)
    draw = random.Random(5)
    totals = {}
    for user in USERS:
        sessions = draw.randint(1, 30)
        closed = draw.randint(0, sessions)
        totals[user] = (
            draw.randint(0, 40_000) * sessions,
            sessions,
            FIRST_US,
            FIRST_US + 10**9,
            60 * closed,
            closed,
            1,
        )
    put(totals, {"m": totals})
    said: list[dict[str, Any]] = json.loads(ask(url, "json"))
    assert len(USERS) == len(said)
    return said


def ask(url: str, wanted: str) -> bytes:
    """Return the whole wide report in a format."""
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx2.get(f"{url}/?format={wanted}&fields=all", headers=headers, trust_env=False).raise_for_status().content


def run(code: list[str], url: str, folder: Path, **named: str) -> str:
    """Run a snippet as a reader would, at this address, and return what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "FLYERTIME_READ_KEY": KEY, **named}
    done = subprocess.run(
        [part.replace("http://127.0.0.1:8083", url) for part in code],
        capture_output=True, text=True, timeout=100, cwd=folder, env=environment, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    assert "" == done.stderr
    return done.stdout


def test_the_document_has_snippets_of_each_kind() -> None:
    """So that none is left out by the way in which they are found."""
    assert (2, 10) == (len(SHELL), len(PYTHON))
    assert len(SNIPPETS) == DOCUMENT.count("<!-- runs")


@pytest.mark.parametrize("code", SHELL, ids=lambda code: code.split()[0])
def test_commands_of_the_document_write_the_report(
    url: str, rows: list[dict[str, Any]], tmp_path: Path, code: str
) -> None:
    """CSV, Parquet and the summary, as files."""
    run(["sh", "-ec", code], url, tmp_path)

    assert len(rows) + 1 == (tmp_path / "users.csv").read_bytes().count(b"\r\n")
    assert len(rows) == pq.read_metadata(tmp_path / "users.parquet").num_rows
    assert len(rows) == json.loads((tmp_path / "summary.json").read_text())["users"]


@pytest.mark.parametrize(
    "code", PYTHON, ids=lambda code: re.findall(r"import (\w+)(?:,.*| as \w+)?$", code, re.MULTILINE)[-1]
)
def test_python_of_the_document_reads_the_same_numbers(
    url: str, rows: list[dict[str, Any]], tmp_path: Path, code: str
) -> None:
    """Each prints how many users there are and how many seconds in all, and leaves no key behind."""
    (tmp_path / "users.parquet").write_bytes(ask(url, "parquet"))  # as curl has written it
    environment = with_httpfs(tmp_path) if "httpfs" in code else with_shillelagh() if "shillelagh" in code else {}
    said = run([sys.executable, "-W", "error", "-c", code], url, tmp_path, **environment)

    assert [len(rows), sum(row["total_seconds"] for row in rows)] == [int(float(number)) for number in said.split()]
    left = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in left if KEY.encode() in path.read_bytes()], "no tool keeps the key"


def test_who_looks_while_the_table_for_superset_is_replaced_sees_all_of_it(
    url: str, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The old one or the new one, and never none, or an empty one."""
    (code,) = (code for code in PYTHON if "superset.db" in code)
    replacing = code[code.index("with sqlite3") :]
    seen: set[tuple[int, ...]] = set()
    replaced = threading.Event()

    def look() -> None:
        while not replaced.is_set():
            with closing(sqlite3.connect(tmp_path / "superset.db")) as database:
                seen.update(database.execute("select count(*) from time_on_flyer"))

    run([sys.executable, "-c", code], url, tmp_path)
    with ThreadPoolExecutor() as threads:
        looking = threads.submit(look)
        try:
            run([sys.executable, "-c", code + replacing * 20], url, tmp_path)
        finally:
            replaced.set()
        looking.result()

    assert {(len(rows),)} == seen


def test_power_bi_s_query_reads_every_row_page_by_page(url: str, rows: list[dict[str, Any]]) -> None:
    """Its parameters, as they stand in the document, with the key that Power BI adds; its table has all columns."""
    (query,) = re.findall(r"^ +Query = \[([^\]]*)\]", DOCUMENT, re.MULTILINE)
    asked = dict(re.findall(r'(\w+) = "([^"]*)"', query))
    (columns,) = re.findall(r"type table \[(.*?)\]", DOCUMENT, re.DOTALL)
    read: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    with httpx2.Client(base_url=url, trust_env=False) as client:
        for _ in range(4):
            page = client.get("/", params={**asked, "limit": "1000", **after, "key": KEY}).raise_for_status().json()
            read += page["rows"]
            if page["next"] is None:
                break
            after = {"after": httpx2.URL(page["next"]).params["after"]}
        whole = client.get("/", params={**asked, "key": KEY}).raise_for_status().json()
        merchants = client.get("/merchants", params={"format": asked["format"], "key": KEY}).raise_for_status().json()
        assert "unknown_parameter" == client.get("/merchants", params={**asked, "key": KEY}).json()["code"]

    assert by_user(rows) == by_user(read) == by_user(whole["rows"])
    assert len(rows) == len(read) > 2 * 1000
    assert {"key", *asked} == {"key", "limit", "fields", "format"}
    assert [column.name for column in USER_COLUMNS] == re.findall(r"(\w+) = ", columns) == [*rows[0]]
    assert ["m"] == [row["merchant_id"] for row in merchants]


def test_grafana_and_excel_find_what_they_are_told_to_look_for(url: str, rows: list[dict[str, Any]]) -> None:
    """Each address of the document, and in its answer the selector and the columns."""
    addresses = {
        address: httpx2.get(url + address, headers={"authorization": f"Bearer {KEY}"}, trust_env=False)
        for address in re.findall(r"`https://report\.example\.com(/[^`]*)`", DOCUMENT)
    }
    assert {200} == {answer.status_code for answer in addresses.values()}
    assert {"/merchants", "/summary", "/summary?format=json", "/?format=csv&fields=all"} < addresses.keys()
    summary = addresses["/summary"].json()
    (users,) = (answer.json() for address, answer in addresses.items() if "sort=-hours" in address)

    assert isinstance(addresses["/merchants"].json(), list), "no root selector"
    assert len(rows) == sum(bucket["users"] for bucket in summary["histogram"])
    assert all({"from_hours", "users"} <= bucket.keys() for bucket in summary["histogram"])
    assert 0 == summary["freshness"]["pending_events"]
    assert 100 == len(users["rows"])
    assert len(rows) + 1 == len(addresses["/?format=csv&fields=all"].content.split(b"\r\n")) - 1


def with_shillelagh() -> dict[str, str]:
    """Return an environment in which Python finds it."""
    assert SHILLELAGH.exists(), "run `make .venv/shillelagh`"
    return {"PYTHONPATH": str(SHILLELAGH)}


def with_httpfs(home: Path) -> dict[str, str]:
    """Return an environment in which DuckDB finds its extension, as if it had been downloaded before."""
    assert HTTPFS.exists(), "run `make .venv/httpfs`"
    (extension,) = HTTPFS.glob("duckdb_extension_httpfs/extensions/*/httpfs.duckdb_extension")
    with duckdb.connect() as database:
        (platform,) = database.execute("pragma platform").fetchone() or ("",)
    folder = home / ".duckdb" / "extensions" / extension.parent.name / platform
    folder.mkdir(parents=True)
    (folder / extension.name).symlink_to(extension)
    return {"HOME": str(home), "PYTHONPATH": str(HTTPFS)}


@pytest.mark.parametrize(
    "source",
    [
        "read_csv('{}/?format=csv&fields=all', types={{'user_id': 'VARCHAR'}}, nullstr='', force_not_null=['user_id'])",
        "read_parquet('{}/?format=parquet&fields=all')",
        "read_json('{}/?format=ndjson&fields=all')",
        "read_json('{}/?format=json&fields=all')",
    ],
    ids=lambda source: source.partition("&")[0].partition("format=")[2],
)
def test_duckdb_reads_every_user_over_http_by_itself(
    url: str, rows: list[dict[str, Any]], tmp_path: Path, source: str
) -> None:
    """The address alone, no file in between: every id as it is, every number the same."""
    statement = f"select user_id, {', '.join(COLUMNS)} from {source.format(url)}"  # noqa: S608  # of constants
    code = f"""
import duckdb, json
with duckdb.connect() as database:
    database.execute("create secret (type http, bearer_token '{KEY}')")
    print(json.dumps(database.execute({statement!r}).fetchall()))
"""
    said = run([sys.executable, "-W", "error", "-c", code], url, tmp_path, **with_httpfs(tmp_path))

    assert by_user(rows) == {user: numbers for user, *numbers in json.loads(said)}


def by_user(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the numbers of each user."""
    return {row["user_id"]: [row[name] for name in COLUMNS] for row in rows}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("wanted", ["csv", "parquet", "arrow", "ndjson"])
def test_every_library_reads_the_same_numbers(
    url: str, rows: list[dict[str, Any]], tmp_path: Path, reader: str, wanted: str
) -> None:
    """From each format that it reads: every id as it is, every number the same."""
    body = ask(url, wanted)
    path = tmp_path / f"users.{wanted}"
    path.write_bytes(body)

    assert by_user(rows) == by_user(READERS[reader](wanted, body, path))


@pytest.mark.parametrize("wanted", ["csv", "parquet", "arrow", "ndjson"])
def test_a_report_of_nobody_has_the_same_columns(url: str, raw_redis: redis.Redis, wanted: str) -> None:
    """So that a refresh before the first run breaks no model: names and types as ever."""
    empty(raw_redis)
    body = ask(url, wanted)
    if wanted == "ndjson":
        assert b"" == body
        return
    stream = io.BytesIO(body)
    if wanted == "csv":
        names = [str(name) for name in pd.read_csv(stream).columns]
    elif wanted == "parquet":
        names = pq.read_schema(stream).names
    else:
        names = pa.ipc.open_stream(stream).schema.names

    assert {"user_id", "first_seen", "last_seen", "avg_open_to_close_hours", *COLUMNS} == set(names)
