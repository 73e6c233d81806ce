"""Arguments packed by column: the store gets what it would get one by one."""

from __future__ import annotations

from typing import Any

from redis.connection import HiredisRespSerializer

from functions.adapters.redis_arguments import PackedArguments, Packer

TEXTS = [b"", b"u", "ü\r\n$3".encode(), b"x" * 70_000]


def test_a_command_with_packed_arguments_is_the_same_command() -> None:
    """Whatever the others are: text, bytes or numbers."""
    packed = Packer().pack("HSET", b"key", 7, PackedArguments.of(TEXTS))
    plain: Any = HiredisRespSerializer()

    assert b"".join(plain.pack("HSET", b"key", 7, *TEXTS)) == b"".join(packed)


def test_packed_arguments_are_read_back() -> None:
    """None of them, or many."""
    assert TEXTS == PackedArguments.of(TEXTS).texts()
    assert [] == PackedArguments.of([]).texts()
