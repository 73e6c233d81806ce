"""Servers as processes of their own, and the load on them (wrk)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import httpx2

from functions.local.valkey import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT: Final = Path(__file__).parent.parent


class Served(NamedTuple):
    """A server that answers."""

    url: str
    pid: int
    started_ms: float
    """From the start of its process to its first answer."""


@contextmanager
def served(
    command: Sequence[str], environment: Mapping[str, str], path: str = "/", *, body: bytes | None = None
) -> Iterator[Served]:
    """Run a server for the length of a block; ``{port}`` in its command is the port that it gets."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    started_s = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *(part.format(port=port) for part in command)],
        env={**os.environ, **environment},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx2.Client(trust_env=False, timeout=5) as client:
            while True:
                try:
                    client.request("GET" if body is None else "POST", url + path, content=body)
                    break
                except httpx2.HTTPError:
                    if process.poll() is not None or time.monotonic() > started_s + 60:
                        raise SystemExit(f"{' '.join(command)} did not start") from None
                    time.sleep(0.002)
        yield Served(url, process.pid, (time.monotonic() - started_s) * 1000)
    finally:
        process.terminate()
        process.wait(30)


def requests_a_second(url: str, script: str, *, connections: int, seconds: int, prefer: str | None = None) -> float:
    """Load a server with wrk and return the rate of its answers.

    Raises:
        SystemExit: wrk is not there, or some answer was no success.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("this measurement needs wrk (Debian: apt-get install wrk)")
    lua = ROOT / "bench" / "wrk" / f"{script}.lua"
    command = [wrk, "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    command += ["--timeout", "10s", "--script", str(lua), url + "/"]
    environment = {**os.environ, **({"WRK_PREFER": prefer} if prefer else {})}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60, env=environment)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if rate is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(f"not every request was a success:\n{done.stdout}")
    return float(rate[1])


def resident_bytes(pid: int) -> int:
    """Return the memory that a process and its children hold."""
    held_bytes = 0
    for process in _family_of(pid):
        fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
        held_bytes += int(fields.get("VmRSS", "0 kB").split()[0]) * 1024
    return held_bytes


def processor_s(pid: int) -> float:
    """Return the processor time, of user and kernel, that a process and its children have had."""
    ticks = 0
    for process in _family_of(pid):
        after_name = (process / "stat").read_text().rpartition(")")[2].split()  # proc(5): utime and stime
        ticks += int(after_name[11]) + int(after_name[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _family_of(pid: int) -> Iterator[Path]:
    """Yield the folder in /proc of a process and of each of its children."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        if pid in {int(process.name), parent}:
            yield process
