"""What a process and all that it has started take: processor time, and peaks of memory by kind."""

from __future__ import annotations

import os
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s() -> float:
    """Return the processor time so far of this process, the JVM and the Python workers.

    A crowded machine adds little to it, where it may double the seconds.
    """
    total = 0.0
    for member in _members(os.getpid()):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(") ")[2].split()
        total += sum(map(int, fields[11:15])) * _TICK_S  # utime, stime, and those of children that have ended
    return total


def peaks_mb() -> dict[str, float]:
    """Return the peak memory of the driver, of its JVM, and of the largest Python worker, in MB."""
    driver = os.getpid()
    peaks = {"driver_mb": 0.0, "jvm_mb": 0.0, "worker_mb": 0.0}
    for member in _members(driver):
        process = Path(f"/proc/{member}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        command = (process / "cmdline").read_bytes()
        kind = "driver_mb" if member == driver else "jvm_mb" if b"java" in command.split(b"\0")[0] else "worker_mb"
        peaks[kind] = max(peaks[kind], int(status.get("VmHWM", "0 kB").split()[0]) / 1024)
    return peaks


def _members(pid: int) -> list[int]:
    members = [pid]
    for member in members:
        for task in Path(f"/proc/{member}").glob("task/*/children"):
            members += map(int, task.read_text().split())
    return members
