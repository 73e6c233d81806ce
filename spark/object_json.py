"""Lines of JSON from an object store, made such that Spark's parser of texts has from them what it has from files.

It reads the bytes of files, but texts elsewhere, and then takes bytes that are no UTF-8 for signs, and writes a value
anew that is a text to us and none to JSON: 1.50 becomes 1.5, and 1700000000.5 becomes 1.7000000005E9.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from spark.object_text import BOM, column_of
from spark.text_formats import tree_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from spark.text_formats import Tree

MARK: Final = "\0"
"""Before a line that is no UTF-8: that is no JSON, so Spark takes the line for none."""
_MARK_BYTES: Final = MARK.encode()
_INEXACT: Final = rb'"(?:%s)"\s*:\s*(?:[\[{]|-?\d+[.eE]|-0)'
"""A member of one of these names whose value may be written in other ways."""


class JsonLines:
    """Makes texts of lines."""

    def __init__(self, columns: Iterable[str]) -> None:
        columns = tuple(columns)
        self._tree = tree_of(columns)
        names = [re.escape(column.rpartition(".")[2].encode()) for column in columns]
        self._inexact = re.compile(_INEXACT % b"|".join(names))

    def batch(self, lines: bytes) -> pa.RecordBatch:
        """Return lines as a column of texts."""
        texts = lines.splitlines()
        if BOM in lines:
            texts = [line.removeprefix(BOM) for line in texts]
        if self._inexact.search(lines):
            texts = [self._exact(line) for line in texts]
        if _MARK_BYTES in lines or not _is_utf8(lines):
            texts = [_marked(line) for line in texts]
        return column_of(texts)

    def document(self, text: bytes) -> pa.RecordBatch:
        """Return a text that is one value, such as an array of records, as a column of that alone."""
        return column_of([_marked(self._exact(text))])

    def _exact(self, text: bytes) -> bytes:
        """Return a record, or an array of such, with texts for what would be written anew."""
        if not self._inexact.search(text):
            return text
        try:
            if text.lstrip()[:1] == b"[":
                records = msgspec.json.decode(text, type=list[msgspec.Raw])
                return b"[%s]" % b",".join(_with_texts(bytes(record), self._tree) for record in records)
            return _with_texts(text, self._tree)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return text  # no JSON, or none that is a record: Spark will say so


def _with_texts(record: bytes, tree: Tree) -> bytes:
    members = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
    for name, below in tree.items():
        value = bytes(members.get(name, b"null"))
        first = value[:1]
        if below and first == b"{":
            members[name] = msgspec.Raw(_with_texts(value, below))
        elif not below and first not in {b'"', b"n", b"t", b"f"}:
            members[name] = msgspec.Raw(msgspec.json.encode(value.decode()))
    return msgspec.json.encode(members)


def _marked(line: bytes) -> bytes:
    return _MARK_BYTES + line if line.startswith(_MARK_BYTES) or not _is_utf8(line) else line


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
