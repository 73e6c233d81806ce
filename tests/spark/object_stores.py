"""Object stores for tests, each a server in a process of its own that ends with the test."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, urlencode

from functions.local.valkey import free_port
from spark.addresses import ObjectAddress

if TYPE_CHECKING:
    from collections.abc import Iterator

S3_PACKAGES: Final = Path(sys.prefix) / "s3_server"
_START_TIMEOUT_S: Final = 60
_MAY_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
_UNSIGNED_REQUESTS: Final = 4
"""Those below, which make the user, its key, what it may do, and the bucket; all others must be signed."""


class S3Server(NamedTuple):
    """Where a server of S3 is, and the key of a user that may do all with its bucket."""

    port: int
    key: str
    secret: str

    def uri(self, folder: str, *, bucket: str = "bucket", key: str | None = None, secret: str | None = None) -> str:
        """Return a folder's address, with the key in it."""
        names = ":".join(quote(name, safe="") for name in (key or self.key, secret or self.secret))
        return f"s3a://{names}@{bucket}/{folder}?endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"


def upload(folder: Path, uri: str) -> None:
    """Copy the files of a folder of this machine, their bytes as they are, to a folder in an object store."""
    address = ObjectAddress.parse(uri)
    file_system = address.open()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            path = f"{address.bucket}/{address.path}/{file.relative_to(folder).as_posix()}"
            with file_system.open_output_stream(path, compression=None) as sink:
                sink.write(file.read_bytes())


def within(uri: str, name: str) -> str:
    """Return the address of something in a folder, or a pattern there."""
    address, question, query = uri.partition("?")
    return f"{address}/{name}{question}{query}"


@contextmanager
def running_google_storage() -> Iterator[int]:
    """Run an emulator of Google Cloud Storage that has a bucket; yield its port."""
    port = free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1", f"--port={port}"]
    with _running([*command, "--in-memory", "--default-bucket=bucket"], f"http://127.0.0.1:{port}/storage/v1/b/bucket"):
        yield port


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """Run moto's server of S3 that has a bucket."""
    assert S3_PACKAGES.exists(), "run `make .venv/s3_server`"
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {"PYTHONPATH": str(S3_PACKAGES), "INITIAL_NO_AUTH_ACTION_COUNT": str(_UNSIGNED_REQUESTS)}
    with _running(command, f"{address}/moto-api/", **environment):
        _manage(address, Action="CreateUser", UserName="job")
        made = _manage(address, Action="CreateAccessKey", UserName="job")
        rights = json.dumps(_MAY_ALL)
        _manage(address, Action="PutUserPolicy", UserName="job", PolicyName="all", PolicyDocument=rights)
        urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT"), timeout=10).close()  # noqa: S310  # ours
        found = re.search("<AccessKeyId>(.+)</AccessKeyId>.*<SecretAccessKey>(.+)</SecretAccessKey>", made, re.DOTALL)
        assert found, made
        yield S3Server(port, *found.groups())


def _manage(address: str, **asked: str) -> str:
    """Ask the user management, which the server tells from S3 by the scope of a signature; nobody checks that yet."""
    scope = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x"
    body = urlencode({**asked, "Version": "2010-05-08"}).encode()
    request = urllib.request.Request(address, body, {"Authorization": scope})  # noqa: S310  # ours
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310  # ours
        return str(reply.read().decode())


@contextmanager
def _running(command: list[str], address: str, **environment: str) -> Iterator[None]:
    """Run a server, which answers at an address once it is up."""
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                urllib.request.urlopen(address, timeout=1).close()  # noqa: S310  # ours
            except OSError:
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < deadline_s, "the server does not answer"
                time.sleep(0.05)
            else:
                break
        yield
    finally:
        process.terminate()
        process.wait(20)
