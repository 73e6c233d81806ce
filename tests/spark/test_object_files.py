"""Patterns and folders in an object store: the files that Hadoop would find, and what Spark would read in the names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.core.errors import MisconfiguredError
from spark.addresses import ObjectAddress
from spark.history_input import files_of, shown_input
from spark.object_files import ObjectFile, alternatives, folder_names, folders_of, found_files, steps_below
from spark.object_parts import tasks_of
from tests.spark.object_stores import S3Server, upload, within

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

FILES = [
    "a.json",
    "b1.json",
    "b^.json",
    "day=1/x.csv",
    "day=1/deep/y.csv",
    "day=2/x.csv",
    "day=2/_half/x.csv",
    "day=2/.x.csv",
    "day=12/x.csv",
    "_hidden/x.csv",
    "_hidden/_SUCCESS",
    "odd/[x].csv",
    "odd/a,b.csv",
    "odd/a{b}.csv",
    "odd/a+b(c)$.csv",
    "odd/ü x%20y.csv",
]
PATTERNS = [
    "",
    "day=1",
    "day=1/x.csv",
    "*",
    "*.json",
    "day=*",
    "day=?",
    "day=*/x.csv",
    "day=[12]/*",
    "day=[!1]",
    "day=[^1]/*.csv",
    "b[0-9].json",
    "b[^0-9].json",
    "{a,b1}.json",
    "{day=1/deep,day=2}",
    "{day=1/{deep/y,x},a.json}*",
    "*/x.csv",
    "*/*",
    "_hidden",
    "_hidden/*",
    "odd/\\[x].csv",
    "odd/a,b.csv",
    "odd/a\\{b\\}.csv",
    "odd/a+b(c)$.csv",
    "odd/ü x%20y.csv",
    "odd/*20*",
    "no*thing",
]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files in a folder of this machine."""
    folder = tmp_path_factory.mktemp("files")
    for name in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return folder


@pytest.fixture(scope="module")
def remote(local: Path, s3: S3Server) -> str:
    """The same in an object store."""
    uri = s3.uri("found")
    upload(local, uri)
    return uri


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_finds_the_files_that_hadoop_finds(
    spark: SparkSession, local: Path, remote: str, pattern: str
) -> None:
    """Hidden ones below what it matches are passed over; what it names itself may be hidden, but for a file."""
    found: list[tuple[int, int] | str] = []
    for uri in (f"{local}/{pattern}", within(remote, pattern)):
        try:
            files = files_of(spark, uri, {"recursiveFileLookup": "true"})  # whatever folders say
            found.append((files.files, files.bytes))
        except MisconfiguredError as e:
            found.append(e.code)

    assert found[0] == found[1]


@pytest.mark.parametrize("pattern", ["day=[1", "{a,b", "a\\", "[b-a]"])
def test_what_is_no_pattern_is_told(remote: str, pattern: str) -> None:
    """With how to take a sign as it is."""
    with pytest.raises(MisconfiguredError, match=r"is no pattern: .* before a sign takes it as it is"):
        found_files(ObjectAddress.parse(within(remote, pattern)))


def test_braces_stand_for_each_of_their_choices() -> None:
    """Nested and empty ones too; with a backslash before it a brace is a sign."""
    assert ["ax", "abx", "acx"] == alternatives("a{,b,c}x")
    assert ["a1b", "a2/3b", "a2/4b"] == alternatives("a{1,2/{3,4}}b")
    assert ["13", "14", "23", "24"] == alternatives("{1,2}{3,4}")
    assert ["\\{a,b}"] == alternatives("\\{a,b}")
    assert ["a}b,c"] == alternatives("a}b,c")


def test_a_star_does_not_go_into_a_folder() -> None:
    """What lies below a folder that matches is found all the same."""
    assert ["x.csv"] == steps_below(["day=*"], ["day=1", "x.csv"])
    assert ["x.csv"] == steps_below(["*", "x.csv"], ["day=1", "x.csv"])
    assert steps_below(["*.csv"], ["day=1", "x.csv"]) is None
    assert steps_below(["*", "*", "*"], ["day=1", "x.csv"]) is None


@pytest.mark.parametrize(
    ("steps", "columns"),
    [
        (["day=1", "merchant_id=007"], (("day", "1"), ("merchant_id", "007"))),
        (["day=1", "x", "hour=2"], (("hour", "2"),)),
        (["day=1", "x"], (("day", "1"),)),
        (["a=b=c"], (("a", "b=c"),)),
        (["m=a%2Fb%3D"], (("m", "a/b="),)),
        (["m=__HIVE_DEFAULT_PARTITION__"], (("m", None),)),
        (["x"], ()),
    ],
)
def test_folders_are_columns(steps: list[str], columns: tuple[tuple[str, str | None], ...]) -> None:
    """The last ones of the form name=value, unescaped."""
    assert columns == folders_of(steps)


def test_folders_that_contradict_each_other_are_told(tmp_path: Path, s3: S3Server) -> None:
    """Some rows would lack what others have."""
    for name in ("given/day=1/x.csv", "given/month=1/x.csv", "empty/=/x.csv"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("x")
    uri = s3.uri("contradicting")
    upload(tmp_path, uri)

    with pytest.raises(MisconfiguredError, match=r"give \S+day=1/x.csv the columns \(day\), but \S+ \(month\)"):
        folder_names(found_files(ObjectAddress.parse(within(uri, "given"))))
    with pytest.raises(MisconfiguredError, match="the folder = lacks a name or a value"):
        found_files(ObjectAddress.parse(within(uri, "empty")))


@pytest.mark.parametrize(
    ("uri", "bucket", "path", "shown"),
    [
        ("s3a://K:S@b/x/y?region=r&scheme=http", "b", "x/y", "s3a://b/x/y"),
        ("s3://b", "b", "", "s3://b/"),
        ("gs://anonymous@b/day=?/x", "b", "day=?/x", "gs://b/day=?/x"),
        ("gs://b/day=??endpoint_override=h:1", "b", "day=?", "gs://b/day=?"),
        ("s3://K:S%2F@b/a@b,c", "b", "a@b,c", "s3://b/a@b,c"),
    ],
)
def test_an_address_is_taken_apart(uri: str, bucket: str, path: str, shown: str) -> None:
    """A question mark is a pattern's where no query follows; neither key nor secret is shown."""
    address = ObjectAddress.parse(uri)

    assert (bucket, path, shown) == (address.bucket, address.path, address.shown)
    assert "K:S" not in repr(address)


@pytest.mark.parametrize("uri", ["s3a:///x", "gs://", "s3a://KEY:SEC/RET@bucket/x", "s3a://KEY:SECRET@/x"])
def test_an_address_without_a_bucket_is_told_without_what_may_be_a_secret(uri: str) -> None:
    """Such as one whose slash was to be written otherwise."""
    with pytest.raises(MisconfiguredError, match="names no bucket") as caught:
        ObjectAddress.parse(uri)
    assert "SEC" not in caught.value.message


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3a://K:S%2F@b/{a,b}/x@y?scheme=http", "s3a://b/{a,b}/x@y?scheme=http"),
        ("hdfs://me@host:1/{a,b}", "hdfs://host:1/{a,b}"),
        ("gs://b/x?y@z", "gs://b/x?y@z"),
        ("a@b,c/*.csv", "a@b,c/*.csv"),
    ],
)
def test_what_is_kept_of_an_address_lacks_user_and_password_alone(uri: str, shown: str) -> None:
    """A comma is a pattern's or a name's, not one between addresses of a store."""
    assert shown == shown_input(uri)


def test_files_are_shared_out_whole_or_in_parts() -> None:
    """Each byte once; small files together, those of other folders apart, compressed ones whole."""
    mega = 1024 * 1024
    files = [
        ObjectFile("b/a.json", 200 * mega, 0, ()),
        ObjectFile("b/b.json.gz", 200 * mega, 0, ()),
        *(ObjectFile(f"b/c{number:02}.json", mega, 0, ()) for number in range(40)),
        ObjectFile("b/d.json", 0, 0, ()),
        ObjectFile("b/e.json", mega, 0, (("day", "1"),)),
    ]
    tasks = tasks_of(files, 8, texts=True)
    parts = [part for task in tasks for part in task.parts]

    for file in files:
        ranges = [(part.start, part.end) for part in parts if part.path == file.path]
        assert [start for start, _ in ranges] == [0, *(end for _, end in ranges)][: len(ranges)]
        assert not file.size_bytes or file.size_bytes == ranges[-1][1]
    assert {"gzip": 1, None: len(parts) - 1} == {
        codec: sum(part.codec == codec for part in parts) for codec in ("gzip", None)
    }
    assert 8 <= len(tasks) < len(parts)
    assert {(), (("day", "1"),)} == {task.folders for task in tasks}
    assert 1 == len(tasks_of([ObjectFile("b/x.json", 0, 0, ())], 8, texts=True))
    with pytest.raises(MisconfiguredError, match=r"b/x\.csv\.snappy is compressed in a way that is not"):
        tasks_of([ObjectFile("b/x.csv.snappy", 1, 0, ())], 8, texts=True)
