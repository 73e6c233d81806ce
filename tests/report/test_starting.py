"""A report that starts from nothing loads only what everybody needs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from functions.cli import main
from functions.core.access import fitting
from functions.core.read_access import Reader, parse_read_keys


@pytest.mark.parametrize("heavy", ["pyarrow", "jwt", "zstandard", "numpy", "httpx2"])
def test_what_few_ask_for_is_not_loaded_at_the_start(heavy: str) -> None:
    """Arrow, tokens, packing: only where one of them is asked for."""
    code = f"import sys, functions.asgi; sys.exit({heavy!r} in sys.modules)"
    environment = {**os.environ, "FUNCTION_TARGET": "report", "FLYERTIME_READ_AUTH": "off"}

    assert 0 == subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=60).returncode


def test_a_read_key_is_made_and_fits_its_line() -> None:
    """The token is shown once; the line has its hash, the merchant and the limit."""
    result = CliRunner().invoke(main, ["keys", "new", "acme", "--read", "--merchant", "acme & co", "--rate", "2.5"])
    token, line = result.output.splitlines()[1].strip(), result.output.splitlines()[3].strip()
    key = fitting(parse_read_keys(line), token)

    assert (0, True) == (result.exit_code, token.startswith("ftr_"))
    assert "report needs FLYERTIME_PSEUDONYM_SECRET" in result.output
    assert token not in line
    assert key is not None
    assert Reader("acme", "acme & co", 2.5) == key.reader


@pytest.mark.parametrize(
    "arguments",
    [["a b", "--read"], ["a", "--merchant", "m"], ["a", "--read", "--source", "/x"], ["a", "--read", "--merchant", ""]],
)
def test_a_key_that_makes_no_sense_is_not_made(arguments: list[str]) -> None:
    """And the error says what would."""
    result = CliRunner().invoke(main, ["keys", "new", *arguments])

    assert 2 == result.exit_code
    assert "ftr_" not in result.output
