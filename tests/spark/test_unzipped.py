"""Where the workers' daemon takes PySpark from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyspark

from spark.unzipped import unzipped

PACKAGE = Path(pyspark.__file__).parent


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
    assert unzipped(["/work", *zips, "/venv"]) == ["/work", str(python), "/venv", *zips]


def test_other_zips_keep_their_place(tmp_path: Path) -> None:
    """Who sends code along as a zip wants it first."""
    path = [str(tmp_path / "sent.zip"), "/venv"]
    assert unzipped(path) == path
