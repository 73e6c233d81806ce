"""Addresses in object stores, opened by the file systems that Arrow brings: nothing has to be installed for them."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.fs

from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCHEMES: Final = ("s3a", "s3", "gs")
_QUERY: Final = re.compile(r"\?(?=[a-z_]+=)")
"""Where the query of an address begins; elsewhere a question mark is one of a pattern's."""
_REFUSED: Final = re.compile(
    "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|PERMISSION_DENIED|UNAUTHENTICATED"
)


def is_in_object_store(uri: str) -> bool:
    """Tell whether an address is opened here; Spark's own readers have all others."""
    return uri.partition("://")[0] in _SCHEMES and "://" in uri


def file_system_of(uri: str, *, code: str, called: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path that it names there.

    Args:
        uri: As Arrow has it, and s3a:// for s3://.
        code: Of the error where it cannot be opened.
        called: The address in messages, without credentials.

    Raises:
        MisconfiguredError: It is no address.
        OSError: Its store was asked for a region, and did not answer.
    """
    try:
        file_system, path = pa.fs.FileSystem.from_uri(uri.replace("s3a://", "s3://", 1))
    except pa.ArrowInvalid:  # whose words have the address as it is, so they go nowhere
        raise MisconfiguredError(code, f"{called} is no address that can be opened") from None
    return file_system, path


def reason_of(error: OSError) -> str:
    """Return what an object store's client says: status, operation, bucket; no address with a password."""
    if error.errno:
        return os.strerror(error.errno)
    return str(error).partition("\n")[0][:300] or type(error).__name__


@dataclass(frozen=True, slots=True)
class ObjectAddress:
    """A place in a bucket: an object, a folder, or a pattern of such."""

    bucket: str
    path: str
    """Below the bucket, exactly as it was written: nothing in it is an escape."""
    shown: str
    """Without credentials and query."""
    opened: str = field(repr=False)
    """The bucket's own address, with credentials and query."""

    @classmethod
    def parse(cls, uri: str) -> ObjectAddress:
        """Take an address apart.

        Raises:
            MisconfiguredError: It names no bucket.
        """
        *_, query = _QUERY.split(uri) if _QUERY.search(uri) else ("",)
        scheme, _, rest = uri.removesuffix(f"?{query}" if query else "").partition("://")
        authority, _, path = rest.partition("/")
        user, at, bucket = authority.rpartition("@")
        if not re.fullmatch(r"[\w.-]+", bucket):
            raise MisconfiguredError(
                "bad_input", f"the {scheme}:// address names no bucket ({scheme}://BUCKET/…; a / in a secret is %2F)"
            )
        asked = f"?{query}" if query else ""
        return cls(bucket, path.strip("/"), f"{scheme}://{bucket}/{path}", f"{scheme}://{user}{at}{bucket}{asked}")

    def below(self, name: str) -> ObjectAddress:
        """Return a place in this folder."""
        path = f"{self.path}/{name}".strip("/")
        return ObjectAddress(self.bucket, path, f"{self.shown.rstrip('/')}/{name}", self.opened)

    def open(self) -> Any:
        """Return the file system; its paths begin with the bucket.

        Raises:
            MisconfiguredError: What follows the question mark is nothing that it knows.
            UnavailableError: The store did not answer.
        """
        with self.errors("opened"):
            return file_system_of(self.opened, code="bad_input", called=self.shown)[0]

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Turn a file system's errors into ours, which have neither key nor secret; nor has what is chained to them."""
        failed: FlyertimeError
        try:
            yield
        except FileNotFoundError:
            failed = MisconfiguredError("input_changed", f"{self.shown} cannot be {what}: it is not there any more")
        except OSError as e:
            reason = reason_of(e)
            message = f"{self.shown} cannot be {what}: {reason}"
            kind = MisconfiguredError if _REFUSED.search(reason) else UnavailableError
            failed = kind("bad_input" if kind is MisconfiguredError else "input_unavailable", message)
        else:
            return
        raise failed from None
