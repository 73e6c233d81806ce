"""Starting, stopping and surviving: the stack as processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import httpx2
import pytest

from functions.adapters.redis_shard import ShardStore
from functions.core.access import sha256_of
from functions.core.errors import MisconfiguredError, UnavailableError
from functions.core.read_access import ReadKey
from functions.core.settings import Settings
from functions.local.stack import TARGETS, Stack
from functions.local.valkey import EmbeddedValkey, free_port

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)

DATA = {"timestamp": "2026-03-02T08:00:00Z", "user_id": "u", "event": "e", "flyer_id": "f", "merchant_id": "m"}


def ports() -> dict[str, int]:
    """Return free ports for all parts."""
    return {name: free_port() for name in ("valkey", *TARGETS)}


def start_run_command(folder: Path, numbers: dict[str, int]) -> subprocess.Popen[str]:
    """Start ``flyertime run`` and wait until it says that it is up."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "functions", "run", "--folder", str(folder)]
        + [part for name, port in numbers.items() for part in (f"--{name}-port", str(port))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Ctrl-C" in line:
            return process
    raise AssertionError("flyertime run did not come up")


def test_ctrl_c_under_load_loses_no_accepted_event(tmp_path: Path) -> None:
    """Every event that was told accepted before Ctrl-C is in the store that the next start finds."""
    numbers = ports()
    process = start_run_command(tmp_path / "data", numbers)
    accepted: list[int] = []
    stopped = threading.Event()

    def send() -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            events = [
                {"specversion": "1.0", "id": f"{number}-{i}", "source": "/s", "type": "t", "data": DATA}
                for i in range(20)
            ]
            headers = {"content-type": "application/cloudevents-batch+json"}
            try:
                url = f"http://127.0.0.1:{numbers['ingest']}"
                reply = httpx2.post(url, content=json.dumps(events), headers=headers, timeout=10, trust_env=False)
            except httpx2.HTTPError:
                return
            if reply.status_code == 202:
                accepted.append(reply.json()["accepted"])

    sender = threading.Thread(target=send)
    sender.start()
    while len(accepted) < 20:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody in the group
    output, _ = process.communicate(timeout=60)
    stopped.set()
    sender.join()

    assert (0, True) == (process.returncode, "the data stays" in output)
    with EmbeddedValkey(tmp_path / "data" / "valkey") as server:
        store = ShardStore(Settings(redis_url=server.url))
        held = sum(store.ledger(shard).accepted for shard in range(store.shards()))
        store.close()
    assert sum(accepted) <= held <= sum(accepted) + 20  # the request in whose middle the stop came


def test_two_stacks_in_one_folder_are_refused(tmp_path: Path) -> None:
    """The second one says so, and the first goes on."""
    with Stack(tmp_path, ports=ports()) as first:
        with pytest.raises(MisconfiguredError, match="another flyertime runs in"):
            Stack(tmp_path, ports=ports()).start()

        assert 200 == httpx2.get(f"{first.urls['ingest']}/readyz", trust_env=False).status_code


def test_a_part_that_is_not_set_up_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a line of its own log, which whoever starts the stack is shown; nothing is left running."""
    monkeypatch.setenv("FLYERTIME_READ_KEYS", ReadKey("m", sha256_of("ftr_m"), "m").line)
    stack = Stack(tmp_path, ports=ports())
    with pytest.raises(UnavailableError, match=r"report does not start: .*FLYERTIME_PSEUDONYMS=off") as failed:
        stack.start()

    assert "Traceback" not in str(failed.value)
    assert all(child.process.poll() is not None for child in stack._children.values())


def test_a_function_that_dies_is_started_again(tmp_path: Path) -> None:
    """As Kubernetes would; the store keeps what was accepted."""
    with Stack(tmp_path, ports=ports()) as stack:
        pid = stack._children["ingest"].process.pid
        os.kill(pid, signal.SIGKILL)
        deadline_s = time.monotonic() + 30
        while True:
            try:
                health = httpx2.get(f"{stack.urls['ingest']}/readyz", timeout=2, trust_env=False)
                if stack._children["ingest"].process.pid != pid and health.status_code == 200:
                    break
            except httpx2.HTTPError:
                pass  # it is not up again yet
            assert time.monotonic() < deadline_s
            time.sleep(0.1)


def test_the_demo_ends_well() -> None:
    """The whole demo: exit status 0, the report, the ledger, and the check against a plain computation."""
    done = subprocess.run(
        [sys.executable, "-m", "functions", "demo", "--events", "3000"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert re.search(r"all +3,000 +\d+ +3,000 +0", done.stdout)
    assert "averages equal those of a plain computation" in done.stdout
