"""Real API servers: one that is started here as envtest does it, or the one of a kubeconfig.

The flags are those of controller-runtime's envtest. It was run with Kubernetes 1.20.2 and etcd 3.4.23, as Debian 12 has
them (kube-apiserver built from its source package); there was no cluster.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import yaml
from kubernetes import client, config
from kubernetes.client import ApiException

from functions.local.valkey import free_port
from tests.kubernetes_api.clusters import GROUP, PLURAL, VERSION, write_kubeconfig
from tests.kubernetes_api.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Mapping

_START_TIMEOUT_S: Final = 60.0
_ADMIN: Final = "flyertime-tests"
_DEFINITIONS: Final = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
_RIGHTS: Final = ("rbac.authorization.k8s.io", "v1")
_PLURALS: Final = {"Role": "roles", "RoleBinding": "rolebindings"}
_TRIGGER: Final = "flyertime-trigger"
_ROOT: Final = Path(__file__).parents[2]
_JSON: Final = {"Content-Type": "application/json"}


class KubeApiServer:
    """etcd and kube-apiserver on the loopback address, without nodes, controllers or an operator."""

    def __init__(self, assets: Path, folder: Path) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._folder = folder
        token, etcd, port = secrets.token_hex(16), free_port(), free_port()
        key = folder / "service-accounts.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True, timeout=60)
        (folder / "tokens.csv").write_text(f'{token},{_ADMIN},{_ADMIN},"system:masters"\n')
        etcd_url = f"http://127.0.0.1:{etcd}"
        try:
            self._start(
                assets / "etcd",
                f"--data-dir={folder / 'etcd'}",
                f"--listen-client-urls={etcd_url}",
                f"--advertise-client-urls={etcd_url}",
                "--listen-peer-urls=http://127.0.0.1:0",
                "--unsafe-no-fsync=true",
            )
            self._start(
                assets / "kube-apiserver",
                f"--etcd-servers={etcd_url}",
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",
                f"--cert-dir={folder / 'certificates'}",  # it makes a certificate of its own there
                "--authorization-mode=RBAC",
                f"--token-auth-file={folder / 'tokens.csv'}",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--allow-privileged=true",
                "--disable-admission-plugins=ServiceAccount",  # no controller makes the default account
                f"--service-account-issuer=https://127.0.0.1:{port}/",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
            )
            self._wait(f"https://127.0.0.1:{port}/readyz", token)
        except BaseException:
            self.close()
            raise
        authority = folder / "certificates" / "apiserver.crt"  # its own certificate, and the one that signed it
        address = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(authority)}
        self.kubeconfig = write_kubeconfig(folder / "admin.yaml", address, token)

    def close(self) -> None:
        """Stop both."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, program: Path, *arguments: str) -> None:
        with (self._folder / f"{program.name}.log").open("wb") as log:
            self._processes.append(subprocess.Popen([str(program), *arguments], stdout=log, stderr=subprocess.STDOUT))

    def _wait(self, url: str, token: str) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310  # ours
        while True:
            with (
                contextlib.suppress(OSError),  # not there yet, or not ready: an HTTP error is an OSError too
                urllib.request.urlopen(request, timeout=2, context=context),  # noqa: S310  # ours
            ):
                return
            dead = [process.args for process in self._processes if process.poll() is not None]
            assert not dead, f"{dead} ended; see {self._folder}"
            assert time.monotonic() < deadline_s, f"kube-apiserver is not ready; see {self._folder}"
            time.sleep(0.2)


class RealServer:
    """An API server with the custom resource, through an administrator's kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        configuration = client.Configuration()
        load: Any = config.load_kube_config
        load(str(kubeconfig), client_configuration=configuration, persist_config=False)
        self.configuration = configuration
        self.api = client.ApiClient(configuration)
        self._objects = client.CustomObjectsApi(self.api)
        version: Any = client.VersionApi(self.api).get_code(_request_timeout=30)
        major, minor, *_ = version.git_version.removeprefix("v").split(".")
        self.version = int(major), int(minor)
        self._made_definition = self._define()

    def close(self) -> None:
        """Remove the custom resource, where it was made here."""
        if self._made_definition:
            self._objects.delete_cluster_custom_object(*_DEFINITIONS, f"{PLURAL}.{GROUP}", _request_timeout=30)

    def address(self, gate: Gate) -> dict[str, Any]:
        """Return a kubeconfig's ``cluster`` for the way through a gate, which has no certificate of its own."""
        parts = urlsplit(self.configuration.host)
        address: dict[str, Any] = {"server": f"{parts.scheme}://127.0.0.1:{gate.port}"}
        if not self.configuration.verify_ssl:
            return {**address, "insecure-skip-tls-verify": True}
        address["tls-server-name"] = self.configuration.tls_server_name or parts.hostname
        if self.configuration.ssl_ca_cert is not None:
            authority = Path(self.configuration.ssl_ca_cert).read_bytes()
            address["certificate-authority-data"] = base64.b64encode(authority).decode()
        return address

    def _define(self) -> bool:
        """Install the custom resource where there is none; the operator's own is used as it is."""
        definition = yaml.safe_load(Path(__file__).with_name("sparkapplications.yaml").read_text())
        try:
            self._objects.create_cluster_custom_object(*_DEFINITIONS, definition, _headers=_JSON, _request_timeout=30)
        except ApiException as e:
            if e.status == 409:
                return False
            raise
        deadline_s = time.monotonic() + 30
        while True:
            found: Any = self._objects.get_cluster_custom_object(
                *_DEFINITIONS, f"{PLURAL}.{GROUP}", _request_timeout=30
            )
            conditions = found.get("status", {}).get("conditions") or ()
            if any(("Established", "True") == (each["type"], each["status"]) for each in conditions):
                return True
            assert time.monotonic() < deadline_s, "the custom resource is not established"
            time.sleep(0.1)


class RealCluster:
    """One namespace of it, made for the test; see Cluster."""

    def __init__(self, server: RealServer, namespace: str, folder: Path) -> None:
        self.namespace = namespace
        self._core = client.CoreV1Api(server.api)
        self._objects = client.CustomObjectsApi(server.api)
        self._place = (GROUP, VERSION, namespace, PLURAL)
        self.validates_fields = server.version >= (1, 25)
        parts = urlsplit(server.configuration.host)
        self.gate = Gate(str(parts.hostname), parts.port or 443)
        self._core.create_namespace(
            client.V1Namespace(metadata=client.V1ObjectMeta(name=namespace)), _request_timeout=30
        )
        address = server.address(self.gate)
        tokens = {name: self._token(name) for name in (_TRIGGER, "nobody")}
        self._grant()
        self.kubeconfig = write_kubeconfig(folder / "trigger.yaml", address, tokens[_TRIGGER])
        self.kubeconfig_of_nobody = write_kubeconfig(folder / "nobody.yaml", address, tokens["nobody"])

    def applications(self) -> list[dict[str, Any]]:
        """Return the SparkApplications of the namespace, by name."""
        found: Any = self._objects.list_namespaced_custom_object(*self._place, _request_timeout=30)
        return sorted(found["items"], key=lambda application: str(application["metadata"]["name"]))

    def set_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Set a SparkApplication's status, as the operator does."""
        headers = {"Content-Type": "application/merge-patch+json"}
        self._objects.patch_namespaced_custom_object_status(
            *self._place, name, {"status": dict(status)}, _headers=headers, _request_timeout=30
        )

    def add(self, application: Mapping[str, Any]) -> None:
        """Create a SparkApplication as somebody else."""
        self._objects.create_namespaced_custom_object(
            *self._place, dict(application), _headers=_JSON, _request_timeout=30
        )

    def delete(self, name: str) -> None:
        """Delete a SparkApplication, as its time to live or a person does."""
        self._objects.delete_namespaced_custom_object(*self._place, name, _request_timeout=30)

    def close(self) -> None:
        """Remove the namespace; without controllers it stays, empty, until the server stops."""
        self.gate.close()
        self._objects.delete_collection_namespaced_custom_object(*self._place, _request_timeout=30)
        self._core.delete_namespace(self.namespace, _request_timeout=30)

    def _token(self, account: str) -> str:
        self._core.create_namespaced_service_account(
            self.namespace, client.V1ServiceAccount(metadata=client.V1ObjectMeta(name=account)), _request_timeout=30
        )
        wish = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
        answer: Any = self._core.create_namespaced_service_account_token(
            account, self.namespace, wish, _request_timeout=30
        )
        return str(answer.status.token)

    def _grant(self) -> None:
        """Give trigger what knative/rbac.yaml gives it, in this namespace, and so see that it is enough."""
        for document in yaml.safe_load_all((_ROOT / "knative" / "rbac.yaml").read_text()):
            if document["kind"] not in _PLURALS or document["metadata"]["name"] != _TRIGGER:
                continue
            document["metadata"]["namespace"] = self.namespace
            for subject in document.get("subjects", ()):
                subject["namespace"] = self.namespace
            self._objects.create_namespaced_custom_object(
                *_RIGHTS,
                self.namespace,
                _PLURALS[document["kind"]],
                document,
                _headers=_JSON,
                _request_timeout=30,
            )
