"""Python loads this by itself at the start of each process of a watched job: at each step it asks the test to go on.

The folder is on PYTHONPATH only there (tests/killing_at_steps.py), so that Spark's Python workers have it too.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from functions.adapters.redis_shard import ShardStore

if TYPE_CHECKING:
    from collections.abc import Callable


def ask(step: str) -> None:
    """Say where we are, and wait until the test lets go of us; where it is gone, go on."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", int(os.environ["FLYERTIME_TEST_GATE"]))) as link:
        link.sendall(f"{step} {os.getpid()}\n".encode())
        link.recv(1)


def before(owner: Any, name: str, step: str) -> None:
    """Ask before each call."""
    act: Callable[..., Any] = getattr(owner, name)

    def asking(*arguments: Any, **named: Any) -> Any:
        ask(step)
        return act(*arguments, **named)

    setattr(owner, name, asking)


def after(owner: Any, name: str, step: str) -> None:
    """Ask after each call."""
    act: Callable[..., Any] = getattr(owner, name)

    def asking(*arguments: Any, **named: Any) -> Any:
        result = act(*arguments, **named)
        ask(step)
        return result

    setattr(owner, name, asking)


before(ShardStore, "open_ledger", "begun")
before(pq.ParquetWriter, "__init__", "empty")  # the file is open
after(pq.ParquetWriter, "write_table", "half")
before(os, "replace", "unnamed")
after(os, "replace", "named")
after(ShardStore, "commit", "committed")
before(ShardStore, "record_run", "folded")
