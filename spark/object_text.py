"""Lines of text from an object store, in a task's memory a block at a time; compressed, or a part of a large file."""

from __future__ import annotations

import codecs
import csv
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa

from functions.core.errors import MisconfiguredError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from spark.addresses import ObjectAddress
    from spark.object_parts import Part

BLOCK_BYTES: Final = 4 * 1024 * 1024
"""What is asked for at a time, and about what is in memory."""
_TAIL_BYTES: Final = 64 * 1024
"""What is asked for at a time beyond the end of a part, for its last line."""
BOM: Final = b"\xef\xbb\xbf"
"""How some programs begin a text in UTF-8."""
_BLANK: Final = bytes(range(33))
"""What Java takes for white space at the ends of a text."""
_END: Final = re.compile(rb"\r\n|\n|\r")
_DAMAGED: Final = re.compile("zlib|bz2|zstd|lz4|truncated compressed", re.IGNORECASE)


class Header(NamedTuple):
    """The line of a CSV file that names its columns."""

    line: bytes
    separator: str
    comment: bytes
    checked: bool
    """Whether all files must have the same."""


def lines_of_blocks(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield bytes anew as whole lines, several at a time; LF, CRLF and CR end one, as in Hadoop."""
    held = b""
    for block in blocks:
        held += block
        # A CR at the end may be half of a line's end.
        cut = max(held.rfind(b"\n"), held.rfind(b"\r", 0, len(held) - 1)) + 1
        if cut:
            yield held[:cut]
            held = held[cut:]
    if held:
        yield held


def lines_of_range(read: Callable[[int, int], bytes], start: int, end: int, block_bytes: int) -> Iterator[bytes]:
    """Yield the lines that begin in a range of a file, several at a time.

    Args:
        read: Returns so many bytes from some place on, fewer only where the file ends.
        start: Of the range.
        end: Behind it.
        block_bytes: What is read at a time.
    """
    first = max(0, start - 1)  # the line of the byte before is not ours; where that byte ends it, the next one is

    def blocks() -> Iterator[bytes]:
        at, last, ours = first, b"", not start
        while at < end:
            last = read(min(block_bytes, end - at), at)
            if not last:
                return
            yield last
            ours = ours or _END.search(last) is not None
            at += len(last)
        size = min(block_bytes, _TAIL_BYTES)
        while ours and not last.endswith((b"\n", b"\r")):
            last = read(size, at)
            if not last:
                return
            found = _END.search(last)
            yield last[: found.end()] if found else last
            ours = found is None
            at += len(last)
            size = min(2 * size, BLOCK_BYTES)

    skipped = not start
    for lines in lines_of_blocks(blocks()):
        if skipped:
            yield lines
        elif found := _END.search(lines):
            yield from (rest for rest in (lines[found.end() :],) if rest)
        skipped = True


def lines_of_part(file_system: Any, address: ObjectAddress, part: Part, encoding: str | None) -> Iterator[bytes]:
    """Yield the lines of a part, several at a time, in UTF-8 where it says in what they are.

    Raises:
        MisconfiguredError: The file is gone, or is not compressed as its name says.
        UnavailableError: The store does not answer.
    """
    with _errors(address, part):
        if part.codec:
            with file_system.open_input_stream(part.path, compression=part.codec, buffer_size=BLOCK_BYTES) as stream:
                yield from _decoded(lines_of_blocks(iter(lambda: stream.read(BLOCK_BYTES), b"")), True, encoding)
        else:
            with file_system.open_input_file(part.path) as file:
                lines = lines_of_range(file.read_at, part.start, part.end, BLOCK_BYTES)
                yield from _decoded(lines, part.start == 0, encoding)


def text_of_part(file_system: Any, address: ObjectAddress, part: Part, encoding: str | None) -> bytes:
    """Return a whole file.

    Raises:
        MisconfiguredError: As above.
        UnavailableError: As above.
    """
    with (
        _errors(address, part),
        file_system.open_input_stream(part.path, compression=part.codec, buffer_size=BLOCK_BYTES) as stream,
    ):
        return b"".join(_decoded([stream.read()], True, encoding))


def _decoded(blocks: Iterable[bytes], from_start: bool, encoding: str | None) -> Iterator[bytes]:
    for number, block in enumerate(blocks):
        text = block.removeprefix(BOM) if from_start and not number else block
        yield text.decode(encoding, "replace").encode() if encoding else text


@contextmanager
def _errors(address: ObjectAddress, part: Part) -> Iterator[None]:
    with address.errors(f"read ({part.path})"):
        try:
            yield
        except OSError as e:
            if part.codec and _DAMAGED.search(str(e)):
                raise MisconfiguredError("bad_input", f"{part.path} cannot be read as {part.codec}") from None
            raise


def encoding_of(name: str) -> str:
    """Return Python's name of an encoding, in which a line ends as it does in ASCII.

    Raises:
        MisconfiguredError: It is not known, or has other ends of lines.
    """
    try:
        found = codecs.lookup(name).name
        if "\r\n;,".encode(found) == b"\r\n;,":
            return found
    except LookupError:
        pass
    raise MisconfiguredError("bad_option", f"texts in {name} cannot be read from an object store; in UTF-8 they can")


def csv_batches(lines: Iterable[bytes], header: Header | None, path: str) -> Iterator[pa.RecordBatch]:
    """Yield the lines of a part as columns of texts, without those that are blank.

    Args:
        lines: Of the part, several at a time.
        header: The first line of the file, where the part begins with one.
        path: Of the file.

    Raises:
        MisconfiguredError: Its header is another one.
    """
    for block in lines:
        texts = [line for line in block.splitlines() if line.strip(_BLANK)]
        if header is not None:
            begins = next((at for at, line in enumerate(texts) if not is_comment(line, header.comment)), None)
            if begins is None:
                continue
            _check(texts[begins], header, path)
            del texts[: begins + 1]
            header = None
        if texts:
            yield column_of(texts)


def is_comment(line: bytes, comment: bytes) -> bool:
    """Tell whether Spark passes a line over."""
    return bool(comment) and line.startswith(comment)


def first_line(lines: Iterable[bytes], comment: bytes) -> bytes | None:
    """Return the first line that is neither blank nor a comment."""
    for block in lines:
        for line in block.splitlines():
            if line.strip(_BLANK) and not is_comment(line, comment):
                return line
    return None


def _check(line: bytes, header: Header, path: str) -> None:
    if header.checked and line != header.line and _names(line, header) != _names(header.line, header):
        shown = [some.decode(errors="replace")[:200] for some in (line, header.line)]
        raise MisconfiguredError("bad_input", f"{path} has the header {shown[0]}, the first file {shown[1]}")


def _names(line: bytes, header: Header) -> list[str]:
    """Return the names of columns: they may be quoted here and not there, and case does not count."""
    text = line.decode(errors="replace")
    separator = header.separator
    return [name.strip().lower() for name in next(csv.reader([text], delimiter=separator))] if separator else [text]


def column_of(texts: list[bytes]) -> pa.RecordBatch:
    """Return texts as Spark takes them; bytes that are no UTF-8 as they are, to be read as those of a file."""
    return pa.RecordBatch.from_arrays([pa.array(texts, pa.binary()).view(pa.string())], names=["value"])
