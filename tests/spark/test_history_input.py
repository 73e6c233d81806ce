"""Which files an input has, on file systems that Hadoop opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.core.errors import MisconfiguredError
from spark.history_input import files_of

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore::ResourceWarning")]  # PySpark's sockets


def test_files_beside_folders_that_say_something_are_not_passed_over(spark: SparkSession, tmp_path: Path) -> None:
    """Which is what Spark does with them; where folders say nothing by wish, all count."""
    (tmp_path / "day=1").mkdir()
    for name in ("a.json", "day=1/b.json"):
        (tmp_path / name).write_text("{}")

    with pytest.raises(MisconfiguredError, match=r"columns \(\), but \S+/day=1/b.json \(day\): count one kind alone"):
        files_of(spark, str(tmp_path))
    assert 2 == files_of(spark, str(tmp_path), {"RecursiveFileLookup": "true"}).files


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("abfss://c@a.invalid/x", r"for abfss://. Name org.apache.hadoop:hadoop-azure:3[.\d]+ in spark.jars.packages"),
        ("s3n://bucket/day=1", "s3n://bucket/day=1 cannot be read: write s3:// in place of it"),
        ("nosuch://me:secret@host/x", "^nosuch://host/x cannot be read: Spark knows no file system for nosuch://"),
        ("hdfs://nosuch.invalid:1/x", "^hdfs://nosuch.invalid:1/x cannot be read: .*nosuch.invalid"),
    ],
)
def test_a_file_system_that_spark_does_not_have_is_named_with_what_brings_it(
    spark: SparkSession, uri: str, said: str
) -> None:
    """Without Java's words, or a password."""
    with pytest.raises(MisconfiguredError, match=said) as caught:
        files_of(spark, uri)
    assert "secret" not in caught.value.message
