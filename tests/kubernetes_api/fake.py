"""kmock as an API server that is as strict as the real one where flyertime could be wrong.

kmock keeps objects and speaks HTTP; added here are the rules of the custom resource, who may do what, label selectors,
pages, and the fields that a server sets.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jsonschema
import yaml
from kmock import KubernetesEmulator, KubernetesError, Request, ResourceInfo, Server, action

from tests.kubernetes_api.clusters import GROUP, PLURAL, VERSION, write_kubeconfig
from tests.kubernetes_api.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

RESOURCE: Final = f"{GROUP}/{VERSION}/{PLURAL}"
_VERBS: Final = {action.CREATE: "create", action.FETCH: "get", action.LIST: "list"}
_RESOURCE_VERSIONS = itertools.count(1)


def resource_schema() -> dict[str, Any]:
    """Return the schema of sparkapplications.yaml as JSON Schema, in which unknown fields are refused."""
    definition = yaml.safe_load(Path(__file__).with_name("sparkapplications.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema = json.loads(json.dumps(schema))  # YAML's anchors make one object of many
    schema["properties"]["metadata"]["x-kubernetes-preserve-unknown-fields"] = True
    _close(schema)
    return dict(schema)


def _close(schema: dict[str, Any]) -> None:
    if schema.get("type") == "object" and "additionalProperties" not in schema:
        schema["additionalProperties"] = schema.get("x-kubernetes-preserve-unknown-fields", False)
    for child in schema.get("properties", {}).values():
        _close(child)
    if "items" in schema:
        _close(schema["items"])


class ApiServer(KubernetesEmulator):
    """The emulator, with the rules."""

    rights: dict[str, str]
    """Bearer token to the namespace in which it may create, get and list."""

    async def _handle(self, request: Request) -> Any:
        self._authorize(request)
        if request.action == action.CREATE:
            self._admit(request)
            response: Any = await super()._handle(request)
            response.set_status(201)  # kmock says 200
            return response
        return await super()._handle(request)

    async def _serve_list(self, request: Request) -> Any:
        answer: Any = await super()._serve_list(request)
        wanted = dict(part.split("=") for part in request.params.get("labelSelector", "").split(",") if part)
        items = [item for item in answer["items"] if wanted.items() <= item["metadata"].get("labels", {}).items()]
        first = int(request.params.get("continue", 0))
        last = first + int(request.params.get("limit", len(items) + 1))
        metadata = {"resourceVersion": "1", **({"continue": str(last)} if last < len(items) else {})}
        return {"kind": "SparkApplicationList", "metadata": metadata, "items": items[first:last]}

    def _authorize(self, request: Request) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.rights:
            raise KubernetesError(401, "Unauthorized", "Unauthorized")
        verb = _VERBS.get(request.action or action.WATCH, str(request.method).lower())
        if self.rights[token] != request.namespace or request.action not in _VERBS:
            raise KubernetesError(
                403,
                "Forbidden",
                f'{PLURAL}.{GROUP} is forbidden: User "system:serviceaccount:{request.namespace}:nobody" cannot {verb} '
                f'resource "{PLURAL}" in API group "{GROUP}" in the namespace "{request.namespace}"',
            )

    def _admit(self, request: Request) -> None:
        application, name = request.data, request.data["metadata"]["name"]
        key = (RESOURCE, request.namespace, name)
        if key in self.objects and not self.objects[key].deleted:
            raise KubernetesError(409, "AlreadyExists", f'{PLURAL}.{GROUP} "{name}" already exists')
        for error in jsonschema.Draft7Validator(resource_schema()).iter_errors(application):
            path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
            if error.validator == "additionalProperties" and request.params.get("fieldValidation") == "Strict":
                (unknown, *_) = set(error.instance) - set(error.schema.get("properties", {}))
                raise KubernetesError(
                    400,
                    "BadRequest",
                    f'SparkApplication in version "{VERSION}" cannot be handled as a SparkApplication: strict decoding '
                    f'error: unknown field "{path[1:]}.{unknown}"',
                )
            raise KubernetesError(
                422, "Invalid", f'SparkApplication.{GROUP} "{name}" is invalid: {path[1:]}: {error.message}'
            )
        application["metadata"] |= {
            "uid": str(uuid.uuid4()),
            "resourceVersion": str(next(_RESOURCE_VERSIONS)),
            "creationTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


class FakeServer:
    """The server, in a thread with its own event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.api = ApiServer()
        self.api.rights = {}
        self.api.resources[RESOURCE] = ResourceInfo()
        self._server = Server(self.api)
        self.run(self.api.__aenter__())
        self.run(self._server.__aenter__())
        self.port: int = self._server.port

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do something in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        """Stop it."""
        self.run(self._server.__aexit__(None, None, None))
        self.run(self.api.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class FakeCluster:
    """One namespace of it; see Cluster."""

    validates_fields = True

    def __init__(self, server: FakeServer, namespace: str, folder: Path) -> None:
        self._server = server
        self.namespace = namespace
        self.gate = Gate("127.0.0.1", server.port)
        server.api.rights |= {f"trigger-of-{namespace}": namespace, f"nobody-of-{namespace}": ""}
        address = {"server": f"http://127.0.0.1:{self.gate.port}"}
        self.kubeconfig = write_kubeconfig(folder / "trigger.yaml", address, f"trigger-of-{namespace}")
        self.kubeconfig_of_nobody = write_kubeconfig(folder / "nobody.yaml", address, f"nobody-of-{namespace}")

    def applications(self) -> list[dict[str, Any]]:
        """Return the SparkApplications of the namespace, by name."""
        found = {
            name: copy.deepcopy(kept.raw)
            for (_, namespace, name), kept in self._server.api.objects.items()
            if namespace == self.namespace and not kept.deleted
        }
        return [found[name] for name in sorted(found)]

    def set_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Set a SparkApplication's status, as the operator does."""

        async def patch() -> None:
            self._server.api.objects[RESOURCE, self.namespace, name].patch({"status": dict(status)})

        self._server.run(patch())

    def add(self, application: Mapping[str, Any]) -> None:
        """Create a SparkApplication as somebody else."""

        async def create() -> None:
            made = copy.deepcopy(dict(application))
            made["metadata"].setdefault("creationTimestamp", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            self._server.api.objects[RESOURCE, self.namespace, made["metadata"]["name"]] = made

        self._server.run(create())

    def delete(self, name: str) -> None:
        """Delete a SparkApplication, as its time to live or a person does."""

        async def remove() -> None:
            self._server.api.objects[RESOURCE, self.namespace, name].delete()

        self._server.run(remove())

    def close(self) -> None:
        """Close the way in."""
        self.gate.close()
