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
class_archive.PATH = pathlib.Path(sys.argv[1])
sys.exit(class_archive.main())
"""
TAKE = """
import sys, pathlib
from functions.core.settings import Settings
from spark import class_archive
from spark.session import start_context
class_archive.PATH = pathlib.Path(sys.argv[1])
options = class_archive.java_options() + ' "-Xlog:class+load:file=' + sys.argv[2] + '"'
with start_context(Settings(spark_master="local[1]"), "taking", java_options=options):
    pass
"""


def test_the_archive_that_is_made_is_taken(tmp_path: Path) -> None:
    """Hundreds of Spark's own classes come from it, at a path with a space in it."""
    archive, log = tmp_path / "a folder" / "spark.jsa", tmp_path / "classes"
    archive.parent.mkdir()
    subprocess.run([sys.executable, "-c", MAKE, str(archive)], cwd=ROOT, check=True, timeout=200)
    subprocess.run([sys.executable, "-c", TAKE, str(archive), str(log)], cwd=ROOT, check=True, timeout=200)
    shared = [line for line in log.read_text().splitlines() if "shared objects file (top)" in line]

    assert [archive] == list(archive.parent.iterdir())
    assert len([line for line in shared if "org.apache.spark" in line]) > 500


def test_an_archive_that_does_not_fit_is_passed_over(tmp_path: Path) -> None:
    """Java wants all folders on its class path empty; on Kubernetes the one of Spark's settings is not."""
    archive, log, settings = tmp_path / "spark.jsa", tmp_path / "classes", tmp_path / "conf"
    settings.mkdir()
    environment = {**os.environ, "SPARK_CONF_DIR": str(settings)}

    def run(script: str, *arguments: str) -> None:
        command = [sys.executable, "-c", script, str(archive), *arguments]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=200)

    run(MAKE)
    (settings / "spark.properties").write_text("spark.executor.cores=1\n")
    run(TAKE, str(log))

    assert archive.exists()
    assert "org.apache.spark" in log.read_text()
    assert "shared objects file (top)" not in log.read_text()


def test_without_an_archive_nothing_is_asked_of_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run starts as it always did."""
    monkeypatch.setattr(class_archive, "PATH", tmp_path / "none")

    assert not class_archive.java_options()
