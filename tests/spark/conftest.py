"""What the tests of the job share: awkward events, a filled log, one Spark session, folders in object stores."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import warnings
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st

from functions.adapters.redis_report import ReportStore
from functions.adapters.redis_store import Appended, RedisStore, ShardBatch
from functions.core.events import Event
from functions.core.packing import pack_events
from functions.core.report import row_of
from functions.core.settings import Settings
from functions.core.shards import shard_of
from functions.core.spans import average_hours, spans_of, totals_of
from spark import class_archive
from tests.spark.object_stores import S3Server, running_google_storage, running_s3
from tests.stored_averages import averages_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pyspark.sql import SparkSession

    from functions.local.valkey import EmbeddedValkey

USERS = ["", "u", "v", "ü", "e\u0301", "😀", "nul\0", "a b"]
FLYERS = ["", "f", "F", "ƒ", None]
MERCHANTS = ["", "m", "n", None]
NAMES = ["flyer_open", "flyer_close", "shopping_list_open"]
MOMENTS_US = st.one_of(
    st.integers(-3, 3).map(lambda hours: hours * 3_600_000_000),  # equal ones, and whole hours
    st.integers(-(10**7), 10**7),  # around 1970, below a second apart
    st.integers(0, 1000).map(lambda halves: halves * 18_000_000),  # so that averages fall on .005
    st.integers(-(10**14), 4 * 10**15),
)
_counter = iter(range(10**9))


@st.composite
def some_events(draw: st.DrawFn, max_size: int = 30) -> list[Event]:
    """Draw events in any order, with repeats."""
    event = st.builds(
        Event,
        MOMENTS_US,
        st.sampled_from(USERS),
        st.sampled_from(NAMES),
        st.sampled_from(FLYERS),
        st.sampled_from(MERCHANTS),
    )
    return draw(st.lists(event, max_size=max_size))


@pytest.fixture(scope="session")
def events_strategy() -> Callable[..., st.SearchStrategy[list[Event]]]:
    """Return the strategy for events."""
    return some_events


def fill(settings: Settings, batches: Iterable[Sequence[Event]]) -> None:
    """Write each batch to the log as one request of ingest does."""

    async def append() -> None:
        store = RedisStore(settings)
        shards = await store.shards()
        for batch in batches:
            by_shard: dict[int, list[Event]] = defaultdict(list)
            for event in batch:
                by_shard[shard_of(event.user_id, shards)].append(event)
            packed = [ShardBatch(shard, pack_events(some), len(some)) for shard, some in by_shard.items()]
            assert all(isinstance(answer, Appended) for answer in await store.append(packed, window=0))
        await store.close()

    asyncio.run(append())


def report_of(settings: Settings) -> dict[str, float]:
    """Return the averages in the store, by user."""

    async def read() -> dict[str, float]:
        store = ReportStore(settings)
        shards = await averages_in(store)
        await store.close()
        rows = [row_of(user_id, value) for averages in shards for user_id, value in averages.items()]
        return {row.user_id: row.avg_time_on_flyer_per_user_hours for row in rows if row}

    return asyncio.run(read())


def expected_report(events: Iterable[Event]) -> dict[str, float]:
    """Return what the report must be, in plain Python."""
    totals = {user: totals_of(spans) for user, spans in spans_of(events).items()}
    return {user: average_hours(*total[:2]) for user, total in totals.items() if total.sessions}


@pytest.fixture(scope="session")
def fill_log() -> Callable[[Settings, Iterable[Sequence[Event]]], None]:
    """Return what fills a log."""
    return fill


@pytest.fixture(scope="session")
def read_report() -> Callable[[Settings], dict[str, float]]:
    """Return what reads the report."""
    return report_of


@pytest.fixture(scope="session")
def plain_report() -> Callable[[Iterable[Event]], dict[str, float]]:
    """Return what computes the report in plain Python."""
    return expected_report


@pytest.fixture
def fresh(valkey: EmbeddedValkey) -> Callable[[], Settings]:
    """Return what gives settings of a new pipeline of two shards; each example of a property needs one."""
    return lambda: Settings(redis_url=valkey.url, namespace=f"fold{next(_counter)}", shards=2)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One small Spark session for all tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PySpark and py4j on themselves
        from pyspark.sql import SparkSession  # noqa: PLC0415  # inside, for its warnings

        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        session = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.extraJavaOptions", class_archive.java_options(sql=True))
            .config("spark.python.daemon.module", "spark.worker_daemon")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.sql.shuffle.partitions", "2")
            .config("spark.sql.session.timeZone", "America/Toronto")
            .getOrCreate()
        )
    yield session
    session.stop()


@pytest.fixture(scope="module")
def google_storage() -> Iterator[int]:
    """A server of Google Cloud Storage with a bucket; its port."""
    with running_google_storage() as port:
        yield port


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """A server of S3 with a bucket, and a key for it."""
    with running_s3() as server:
        yield server


@pytest.fixture(params=["gs", "s3", *(["given"] if "FLYERTIME_TEST_ARCHIVE_URI" in os.environ else [])])
def object_folder(request: pytest.FixtureRequest) -> str:
    """A folder of the test's own in an object store."""
    if request.param == "given":
        address, _, query = os.environ["FLYERTIME_TEST_ARCHIVE_URI"].partition("?")
        return f"{address}/{secrets.token_hex(8)}?{query}"
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        return server.uri(secrets.token_hex(8))
    port = request.getfixturevalue("google_storage")
    query = f"endpoint_override=127.0.0.1:{port}&scheme=http&retry_limit_seconds=5"
    return f"gs://anonymous@bucket/{secrets.token_hex(8)}?{query}"
