"""The page's files: read once, as they are sent, with names that change when the content does.

A file is asked for with the version of all of them in its address, so it may be kept for good; only the page itself is
asked for again, and is answered 304.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

HOME: Final = "index.html"

_MEDIA_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_REFERENCE: Final = re.compile(rb'"((?:page|\.)/[a-z]+\.(?:css|js|svg))"')


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file as it is sent."""

    media_type: str
    plain: bytes
    digest: str
    gzipped: bytes

    @property
    def etag(self) -> str:
        """The tag of the file as it is."""
        return f'"page-{self.digest}"'

    @property
    def gzipped_etag(self) -> str:
        """The tag of the file packed, which is another representation."""
        return f'"page-{self.digest}-gzip"'


@cache
def version() -> str:
    """Return what all files together are: another one whenever one of them is another one."""
    digest = hashlib.sha256()
    for name, content in sorted(_contents().items()):
        digest.update(b"%b\0%d\0%b" % (name.encode(), len(content), content))
    return digest.hexdigest()[:12]


@cache
def page_files() -> Mapping[str, PageFile]:
    """Return all files by name; they refer to each other with their version."""
    return {name: _sent(name, content) for name, content in _contents().items()}


@cache
def _contents() -> Mapping[str, bytes]:
    folder = resources.files("functions.report.page").joinpath("static")
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.rpartition(".")[2] in _MEDIA_TYPES}


def _sent(name: str, content: bytes) -> PageFile:
    plain = _REFERENCE.sub(rb'"\1?v=%b"' % version().encode(), content)
    return PageFile(
        media_type=_MEDIA_TYPES[name.rpartition(".")[2]],
        plain=plain,
        digest=hashlib.sha256(plain).hexdigest()[:20],
        gzipped=gzip.compress(plain, 9, mtime=0),
    )
