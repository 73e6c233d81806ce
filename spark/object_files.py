"""Which files an object store has below an address, or by a pattern of Hadoop's, and what their folders say."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.fs

from functions.core.errors import MisconfiguredError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from spark.addresses import ObjectAddress

Folders = tuple[tuple[str, str | None], ...]
"""Columns that the names of folders give, such as ``day=1/merchant_id=007/``, with their values."""
_SIGNS: Final = re.compile(r"[*?\[{\\]")
_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


class ObjectFile(NamedTuple):
    """A file; its path begins with its bucket."""

    path: str
    size_bytes: int
    mtime_ns: int
    folders: Folders


def found_files(address: ObjectAddress) -> list[ObjectFile]:
    """Return the files below an address, or those that its pattern matches, in the order of their paths.

    As in Spark, none whose name, or whose folder's below the address, begins with ``_`` or ``.``.

    Raises:
        MisconfiguredError: There are none, or the pattern is none.
        UnavailableError: The store does not answer.
    """
    patterns = [tuple(filter(None, one.split("/"))) for one in alternatives(address.path)]
    file_system = address.open()
    found: dict[str, ObjectFile] = {}
    with address.errors("listed"):
        for pattern in patterns:
            for info in _infos(file_system, [address.bucket, *pattern]):
                below = steps_below(pattern, info.path.split("/")[1:])
                if below is not None and not any(step.startswith(("_", ".")) for step in [*below, info.base_name]):
                    folders = folders_of(below[:-1])
                    found[info.path] = ObjectFile(info.path, info.size or 0, info.mtime_ns or 0, folders)
        if not found and file_system.get_file_info(address.bucket).type == pa.fs.FileType.NotFound:
            raise MisconfiguredError("no_input", f"{address.shown}: no such bucket, or none that may be looked into")
    if not found:
        raise MisconfiguredError("no_input", f"{address.shown}: no such file or folder, or nothing in it")
    return sorted(found.values())


def folder_names(files: Sequence[ObjectFile]) -> list[str]:
    """Return the columns that folders give, which must be the same for all files.

    Raises:
        MisconfiguredError: They are not: some rows would lack what others have.
    """
    first = files[0]
    for file in files:
        if _names(file) != _names(first):
            raise MisconfiguredError(
                "bad_input",
                f"folders give {first.path} the columns ({', '.join(_names(first))}), but {file.path} "
                f"({', '.join(_names(file))}): count one kind alone, and the rest as another backfill",
            )
    return _names(first)


def _names(file: ObjectFile) -> list[str]:
    return [name for name, _ in file.folders]


def _infos(file_system: Any, steps: Sequence[str]) -> Iterator[Any]:
    """Yield all files below the last folder that is no pattern, or the one file of that name."""
    plain = next((at for at, step in enumerate(steps) if _SIGNS.search(step)), len(steps))
    base = "/".join(steps[:plain])
    infos = file_system.get_file_info(pa.fs.FileSelector(base, recursive=True, allow_not_found=True))
    if not infos and 1 < plain == len(steps):
        infos = [file_system.get_file_info(base)]
    yield from (info for info in infos if info.type == pa.fs.FileType.File)


def steps_below(pattern: Sequence[str], steps: Sequence[str]) -> list[str] | None:
    """Return the steps of a path below what a pattern matches, at least the file's name; None where it does not."""
    if len(steps) < len(pattern) or not all(
        _matcher(sign).fullmatch(step) for sign, step in zip(pattern, steps, strict=False)
    ):
        return None
    return list(steps[len(pattern) :]) or [steps[-1]]


def alternatives(pattern: str) -> list[str]:
    """Return what a pattern with ``{a,b}`` stands for: patterns without.

    Raises:
        MisconfiguredError: A brace is not closed.
    """
    depth, begins, commas = 0, -1, []
    at = 0
    while at < len(pattern):
        sign = pattern[at]
        if sign == "\\":
            at += 1
        elif sign == "{":
            depth += 1
            if depth == 1:
                begins, commas = at, [at]
        elif sign == "," and depth == 1:
            commas.append(at)
        elif sign == "}" and depth:
            depth -= 1
            if not depth:
                cuts = [*commas, at]
                chosen = (pattern[one + 1 : other] for one, other in itertools.pairwise(cuts))
                return [one for choice in chosen for one in alternatives(pattern[:begins] + choice + pattern[at + 1 :])]
        at += 1
    if depth:
        raise _no_pattern(pattern, "a { is not closed")
    return [pattern]


_matchers: dict[str, re.Pattern[str]] = {}


def _matcher(step: str) -> re.Pattern[str]:
    """Return what matches one step of a path."""
    if step not in _matchers:
        try:
            _matchers[step] = re.compile("".join(_translated(step)), re.DOTALL)
        except re.error as e:
            raise _no_pattern(step, str(e)) from None
    return _matchers[step]


def _translated(step: str) -> Iterable[str]:
    at = 0
    while at < len(step):
        sign = step[at]
        if sign == "*":
            yield ".*"
        elif sign == "?":
            yield "."
        elif sign == "\\":
            at += 1
            if at == len(step):
                raise _no_pattern(step, "nothing follows the \\")
            yield re.escape(step[at])
        elif sign == "[":
            negated = step[at + 1 : at + 2] in {"^", "!"}
            begins = at + 1 + negated
            ends = step.find("]", begins + 1)
            if ends < 0:
                raise _no_pattern(step, "a [ is not closed")
            chosen = re.sub(r"([\\\[\]^&~|])", r"\\\1", step[begins:ends])
            yield f"[{'^' if negated else ''}{chosen}]"
            at = ends
        else:
            yield re.escape(sign)
        at += 1


def _no_pattern(pattern: str, reason: str) -> MisconfiguredError:
    return MisconfiguredError("bad_input", f"{pattern} is no pattern: {reason} (\\ before a sign takes it as it is)")


def folders_of(steps: Sequence[str]) -> Folders:
    """Return what the folders of a file say, as Spark has it: the last steps of the form ``name=value``, as texts."""
    columns: list[tuple[str, str | None]] = []
    for step in reversed(steps):
        name, equals, value = step.partition("=")
        if equals and not (name and value):
            raise MisconfiguredError("bad_input", f"the folder {step} lacks a name or a value beside its =")
        if equals:
            columns.append((_unescaped(name), None if value == _NULL else _unescaped(value)))
        elif columns:
            break
    return tuple(reversed(columns))


def _unescaped(text: str) -> str:
    """Return a name of a folder as it was before Spark or Hive escaped it, each sign by its code."""
    return re.sub("%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), text)
