"""Class data sharing: an archive of the classes that a run's JVM loads, so that the next JVM need not read them anew.

``python -m spark.class_archive`` makes it, beside the installed packages; runs on this machine take it where it is. One
that does not fit (another Java, other jars) is passed over by the JVM.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import subprocess

    from pyspark import SparkContext

PATH: Final = Path(sys.prefix) / "spark.jsa"
_EXIT_TIMEOUT_S: Final = 120


def java_options() -> str:
    """Return what makes a JVM take the archive; nothing where there is none."""
    return f'"-XX:SharedArchiveFile={PATH}"' if PATH.exists() else ""


def main() -> int:
    """Start Spark, do a little with it, and have its JVM write the archive when it ends."""
    from functions.core.settings import Settings  # noqa: PLC0415  # what asks for the options needs none of this
    from spark.session import start_context  # noqa: PLC0415

    making = PATH.with_suffix(f".{os.getpid()}")
    settings = dataclasses.replace(Settings(), spark_master="local[1]")
    options = f'"-XX:ArchiveClassesAtExit={making}" -Xlog:cds=off,cds+dynamic=off'
    with start_context(settings, "class-archive", java_options=options) as context:
        context.parallelize([1], 1).map(str).collect()
        process = _jvm_of(context)
    if process.stdin:
        process.stdin.close()  # which is how it is told to end
    process.wait(_EXIT_TIMEOUT_S)
    if not making.exists():
        sys.stderr.write("class_archive: this Java writes no archive; runs start without one\n")
        return 0
    making.replace(PATH)
    sys.stdout.write(f"{PATH}: {PATH.stat().st_size // 2**20} MB\n")
    return 0


def _jvm_of(context: SparkContext) -> subprocess.Popen[bytes]:
    """Return the process, which PySpark started and tells nobody else about."""
    gateway: Any = context._gateway  # noqa: SLF001  # as above
    jvm: subprocess.Popen[bytes] = gateway.proc
    return jvm


if __name__ == "__main__":
    sys.exit(main())
