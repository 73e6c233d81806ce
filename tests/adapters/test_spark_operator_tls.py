"""The way to the Kubernetes API over TLS: a connection that breaks is tried again, a wrong certificate is not."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from functions.adapters.spark_operator import OperatorLauncher
from functions.core.errors import MisconfiguredError, UnavailableError
from functions.core.settings import Settings
from tests.kubernetes_api.clusters import write_kubeconfig
from tests.kubernetes_api.gate import Gate, Way

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.core.policy import Run

_ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{"items":[]}'


def self_signed(folder: Path, address: str) -> Path:
    """Write a certificate for an address, signed with its own key, and the key; return the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{address}.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(certificate.public_bytes(Encoding.PEM) + pem)
    return file


class ApiServer:
    """An API server over TLS in which there are no runs."""

    def __init__(self, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=[context])
        self._thread.start()

    def close(self) -> None:
        """Stop it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self, context: ssl.SSLContext) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), context.wrap_socket(client, server_side=True) as connection:
                connection.recv(65536)
                connection.sendall(_ANSWER)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for this machine."""
    return self_signed(tmp_path, "127.0.0.1")


@pytest.fixture
def api_server(certificate: Path) -> Iterator[ApiServer]:
    """An API server that has it."""
    server = ApiServer(certificate)
    yield server
    server.close()


def runs(port: int, authority: Path) -> list[Run]:
    """Ask the API server at a port for the runs, trusting an authority."""
    address = {
        "server": f"https://127.0.0.1:{port}",
        "certificate-authority-data": base64.b64encode(authority.read_bytes()).decode(),
    }
    kubeconfig = write_kubeconfig(authority.with_suffix(".yaml"), address, "s3cr3t-token")

    async def ask() -> list[Run]:
        launcher = OperatorLauncher(
            Settings(kubeconfig=str(kubeconfig), kube_timeout_s=5, spark_image="registry.example/spark:1")
        )
        try:
            return await launcher.runs()
        finally:
            await launcher.close()

    return asyncio.run(ask())


def test_the_authority_of_the_kubeconfig_is_trusted(api_server: ApiServer, certificate: Path) -> None:
    """So that what follows is not refused for another reason."""
    assert [] == runs(api_server.port, certificate)


def test_a_connection_that_breaks_is_tried_again(api_server: ApiServer, certificate: Path) -> None:
    """In the middle of the handshake, as when an API server restarts: that is no fault of the settings."""
    gate = Gate("127.0.0.1", api_server.port)
    gate.put(Way.BROKEN)
    try:
        with pytest.raises(UnavailableError, match=r"cannot be reached: SSL\w+"):
            runs(gate.port, certificate)
    finally:
        gate.close()


def test_a_certificate_that_nobody_trusted_has_signed_is_the_operators_matter(
    api_server: ApiServer, tmp_path: Path
) -> None:
    """It stays wrong however often it is asked; the message says where the authority comes from, and no token."""
    with pytest.raises(MisconfiguredError, match=r"certificate is not accepted \(self.signed.*kubeconfig") as refusal:
        runs(api_server.port, self_signed(tmp_path, "127.0.0.2"))

    assert "api_certificate" == refusal.value.code
    assert "s3cr3t" not in str(refusal.value)
