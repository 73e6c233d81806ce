"""Where the workers' daemon takes PySpark from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyspark

from spark.unzipped import unzipped
from tests.spark.own_process import last_line_of

PACKAGE = Path(pyspark.__file__).parent
ASK_WORKER = """
import importlib.util
import sys
import zipimport
from functions.core.settings import Settings
from spark.session import start_context

def look(_):
    assert importlib.util.find_spec("there_is_none") is None
    yield [path for path, finder in sys.path_importer_cache.items() if isinstance(finder, zipimport.zipimporter)]

with start_context(Settings(spark_master="local[2]"), "looking") as context:
    print(context.parallelize(range(4), 4).mapPartitions(look).collect())
"""


def test_the_daemon_takes_pyspark_from_its_folder_though_spark_names_the_zip_first() -> None:
    """Compiled once, not by each daemon."""
    zips = [str(file) for file in sorted((PACKAGE / "python" / "lib").glob("*.zip"))]
    assert zips  # as pip's package has them, and as Spark puts them before everything
    said = subprocess.run(
        [sys.executable, "-c", "import spark.worker_daemon, pyspark, py4j; print(pyspark.__file__, py4j.__file__)"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(zips)},
        capture_output=True,
        check=True,
        timeout=60,
        text=True,
    )
    taken, py4j = said.stdout.split()
    assert Path(taken) == PACKAGE / "__init__.py"
    assert ".zip" not in py4j


def test_a_distribution_of_spark_has_its_folder_beside_the_zip(tmp_path: Path) -> None:
    """As in the image, where PySpark is not installed otherwise."""
    python = tmp_path / "python"
    (python / "pyspark").mkdir(parents=True)
    (python / "pyspark" / "__init__.py").touch()
    zips = [str(python / "lib" / name) for name in ("pyspark.zip", "py4j-0.10.9.9-src.zip")]
    jar = str(tmp_path / "jars" / "spark-core_2.13-4.0.4.jar")
    assert unzipped(["/work", *zips, jar, "/venv"]) == ["/work", str(python), "/venv", zips[1]]


def test_a_zip_whose_package_stands_nowhere_else_stays(tmp_path: Path) -> None:
    """Last, for whatever is found without it."""
    zips = [str(tmp_path / "lib" / name) for name in ("pyspark.zip", "py4j-0.10.9.9-src.zip")]
    assert unzipped([*zips, "/venv"]) == ["/venv", *zips]


def test_a_worker_that_has_looked_for_what_is_missing_reads_no_zip_again_with_each_task() -> None:
    """Spark's worker forgets with each task what it knows of the path, and a zip's directory is read anew at once."""
    assert last_line_of(ASK_WORKER) == "[[], [], [], []]"


def test_other_zips_keep_their_place(tmp_path: Path) -> None:
    """Who sends code along as a zip wants it first."""
    path = [str(tmp_path / "sent.zip"), "/venv"]
    assert unzipped(path) == path
