"""The archive of the JVM's classes: made once, taken by runs on this machine, missed by nobody where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from spark import class_archive

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parent.parent.parent
MAKE = """
import sys, pathlib
from spark import class_archive
class_archive.FOLDER = pathlib.Path(sys.argv[1])
sys.exit(class_archive.main([]))
"""
TAKE = """
import sys, pathlib
from functions.core.settings import Settings
from spark import class_archive
from spark.session import start_context
class_archive.FOLDER = pathlib.Path(sys.argv[1])
sql = sys.argv[3:] == ["sql"]
options = class_archive.java_options(sql=sql) + ' "-Xlog:class+load:file=' + sys.argv[2] + '"'
with start_context(Settings(spark_master="local[1]"), "taking", sql=sql, java_options=options) as context:
    if sql:
        from pyspark.sql import SparkSession
        SparkSession(context).range(1).collect()
"""


def run(script: str, folder: Path, *arguments: str | Path, **environment: str) -> None:
    """Make an archive in a folder, or take it from there."""
    command = [sys.executable, "-c", script, folder, *arguments]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=True, timeout=200)


def shared_classes(log: Path, prefix: str) -> int:
    """Return how many classes came from the archive."""
    return len(
        [line for line in log.read_text().splitlines() if "shared objects file (top)" in line and prefix in line]
    )


def test_the_archive_that_is_made_is_taken(tmp_path: Path) -> None:
    """Hundreds of Spark's own classes come from it, at a path with a space in it."""
    archive, log = tmp_path / "a folder" / "spark.jsa", tmp_path / "classes"
    archive.parent.mkdir()
    run(MAKE, archive.parent)
    run(TAKE, archive.parent, log)

    assert [archive] == list(archive.parent.iterdir())
    assert shared_classes(log, "org.apache.spark") > 500


def test_the_archive_for_what_counts_history_is_taken_and_has_sql_too(tmp_path: Path) -> None:
    """The one that was made with the rest of what the tests need, since making it takes long."""
    folder, log = class_archive.FOLDER, tmp_path / "classes"
    assert class_archive.path_of(sql=True).exists(), "make test makes it"
    run(TAKE, folder, log, "sql")

    assert shared_classes(log, "org.apache.spark.sql") > 500


def test_an_archive_that_does_not_fit_is_passed_over(tmp_path: Path) -> None:
    """Java wants all folders on its class path empty; on Kubernetes the one of Spark's settings is not."""
    log, settings = tmp_path / "classes", tmp_path / "conf"
    settings.mkdir()
    run(MAKE, tmp_path, SPARK_CONF_DIR=str(settings))
    (settings / "spark.properties").write_text("spark.executor.cores=1\n")
    run(TAKE, tmp_path, log, SPARK_CONF_DIR=str(settings))

    assert (tmp_path / "spark.jsa").exists()
    assert "org.apache.spark" in log.read_text()
    assert shared_classes(log, "") == 0


def test_without_an_archive_nothing_is_asked_of_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run starts as it always did."""
    monkeypatch.setattr(class_archive, "FOLDER", tmp_path)

    assert ("", "") == (class_archive.java_options(), class_archive.java_options(sql=True))
