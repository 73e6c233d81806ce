"""The page's files: small, of one piece, and without a foreign address."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys

import pytest

from functions.report.page.files import HOME, page_files, version

MAX_GZIPPED_BYTES = 16_384
"""Of all files together: less than one picture on most pages."""


def test_the_whole_page_is_small() -> None:
    """All its files together, as they are sent."""
    assert sum(len(file.gzipped) for file in page_files().values()) <= MAX_GZIPPED_BYTES


@pytest.mark.parametrize("name", sorted(page_files()))
def test_a_file_is_the_same_packed(name: str) -> None:
    """Who takes gzip gets the same bytes."""
    assert page_files()[name].plain == gzip.decompress(page_files()[name].gzipped)


@pytest.mark.parametrize("name", sorted(page_files()))
def test_a_file_names_no_other_host_and_holds_no_inline_code(name: str) -> None:
    """Nothing is loaded from elsewhere, and nothing needs an exception in the policy."""
    text = page_files()[name].plain.decode()

    assert [] == [url for url in re.findall(r"https?://[^\s\"']+", text) if url != "http://www.w3.org/2000/svg"]
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|innerHTML|eval\(", text)


def test_files_refer_to_each_other_by_their_version() -> None:
    """Every reference exists and has the version, so a file may be kept for good."""
    referred = set()
    for file in page_files().values():
        for name, asked in re.findall(rb'"(?:page|\.)/([a-z]+\.(?:js|css|svg))([^"]*)"', file.plain):
            assert f"?v={version()}" == asked.decode()
            referred.add(name.decode())

    assert set(page_files()) - {HOME} == referred


def test_a_start_loads_neither_charts_nor_columns() -> None:
    """What few requests need is imported by these: a start from zero does not wait for it."""
    heavy = {"pygal", "pyarrow", "jwt", "zstandard"}
    code = f"import sys, functions.report.handler; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert "[]\n" == done.stdout
