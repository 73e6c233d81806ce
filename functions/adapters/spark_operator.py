"""The launcher for Kubernetes: each run is a SparkApplication that Kubeflow's Spark operator carries out.

Only create, get and list: a changed or deleted SparkApplication would run again, or lose its log.

The client's synchronous part in a thread, not its asyncio part: on top of what trigger imports anyway it takes 190 ms
and 20 MB where the other takes 300 ms and 30 MB (measured, client 37.0, CPython 3.11), and a start from zero waits for
it. There is one call at a time, so nothing is gained by the other.

The client has no timeout of its own, and its connection pool would repeat what fails: both are set here. Whoever sent
us an event is asked to send it again.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import urllib3
from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration, CustomObjectsApi

from functions.adapters import exchange
from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError
from functions.core.policy import MAX_ATTEMPTS, Cause, Launch, name_of
from functions.core.spark_application import build, labels_of_pipeline
from functions.core.spark_states import one_line, run_of
from functions.core.spark_template import GROUP, KIND, MANAGER, PLURAL, VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.core.policy import Run
    from functions.core.settings import Settings

_PAGE: Final = 200
_JSON: Final = {"Content-Type": "application/json"}  # the client sends none with a custom object
_RETRYABLE: Final = {408, 410, 429}  # and all of 5xx; 410: the next page of a list came too late


class OperatorLauncher:
    """Runs Spark through the operator."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        """Prepare the launcher; connects to nothing.

        Args:
            settings: Of trigger.
            clock: Returns the time in seconds since 1970; to tell how long a run has been without any state.

        Raises:
            MisconfiguredError: There is no way to the API server, or the settings make no SparkApplication.
        """
        self._settings = settings
        self._clock = clock
        self._template = _template(settings)
        trial = name_of(settings.run_name_prefix, "0" * 12, MAX_ATTEMPTS)
        build(Launch(trial, "0" * 12, MAX_ATTEMPTS, 0, Cause.FLUSH, ""), settings, self._template)
        self._client = ApiClient(_configuration(settings))
        self._api = CustomObjectsApi(self._client)
        self._place = (GROUP, VERSION, settings.spark_namespace, PLURAL)

    async def runs(self) -> list[Run]:
        """Return the runs of this pipeline, of any state.

        Raises:
            UnavailableError: The API server did not answer, or not in time.
            MisconfiguredError: It refuses to, and will until somebody mends that.
        """
        labels = ",".join(f"{key}={value}" for key, value in labels_of_pipeline(self._settings).items())
        runs: list[Run] = []
        more: str | None = None
        while True:
            page = _object(
                await self._call(
                    self._api.list_namespaced_custom_object, label_selector=labels, limit=_PAGE, _continue=more
                )
            )
            runs += (
                run_of(application, self._clock(), self._settings.spark_unseen_s)
                for application in page.get("items") or ()
            )
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return runs

    async def launch(self, launch: Launch) -> bool:
        """Create a run's SparkApplication and return True; return False where it exists already.

        Raises:
            UnavailableError: The API server did not answer, or not in time; the application may exist nevertheless.
            MisconfiguredError: It refuses the application; the message says why.
        """
        caller = exchange.trace()
        traceparent = None if caller is None else caller.traceparent
        application = build(launch, self._settings, self._template, traceparent)
        try:
            await self._call(
                self._api.create_namespaced_custom_object,
                application,
                field_manager=MANAGER,
                field_validation="Strict",
                _headers=_JSON,
            )
        except _ConflictError:
            await self._check_that_it_is_ours(launch.name)
            return False
        return True

    async def close(self) -> None:
        """Close the connections; runs go on."""
        self._client.close()  # type: ignore[no-untyped-call]  # as more of the client

    async def _check_that_it_is_ours(self, name: str) -> None:
        """Look at what has the name: a conflict may also be that of a quota, and then there is no such application."""
        try:
            existing = _object(await self._call(self._api.get_namespaced_custom_object, name))
        except _NotFoundError as e:
            raise UnavailableError(
                "api_conflict", f"{name} could not be created just now, because of a conflict"
            ) from e
        labels = existing.get("metadata", {}).get("labels") or {}
        if not labels_of_pipeline(self._settings).items() <= labels.items():
            raise MisconfiguredError(
                "name_taken",
                f"there is a SparkApplication {name} that is not of this pipeline; choose another "
                "FLYERTIME_RUN_NAME_PREFIX",
            )

    async def _call(self, method: Callable[..., Any], *arguments: object, **options: object) -> object:
        """Call the API in a thread, once and in time, and turn the client's errors into ours."""
        timeout_s = self._settings.kube_timeout_s
        given = {name: value for name, value in options.items() if value is not None}
        try:
            # The client's own limits are for each piece of an answer. Where the pieces trickle in, its thread goes on
            # until the server ends; nobody waits for it.
            async with asyncio.timeout(timeout_s):
                return await asyncio.to_thread(
                    method, *self._place, *arguments, **given, _request_timeout=(timeout_s, timeout_s)
                )
        except ApiException as e:
            raise _meaning_of(e) from e
        except TimeoutError as e:
            raise UnavailableError("api_unavailable", f"the Kubernetes API did not answer in {timeout_s:g} s") from e
        except (urllib3.exceptions.HTTPError, OSError) as e:
            raise UnavailableError(
                "api_unavailable", f"the Kubernetes API cannot be reached: {type(e).__name__}", retry_after_s=2
            ) from e
        except ValueError as e:
            raise UnavailableError("api_unavailable", "the Kubernetes API's answer is broken", retry_after_s=2) from e


class _ConflictError(FlyertimeError):
    """409: something has that name, or a quota was being counted."""


class _NotFoundError(MisconfiguredError):
    """404: no such object, or no such resource."""


def _object(answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise UnavailableError("api_unavailable", "the Kubernetes API's answer is no object", retry_after_s=2)
    return answer


def _meaning_of(error: ApiException) -> FlyertimeError:
    """Return what a refusal means to our callers; of the answer's body only the API's own message is told."""
    if not error.status:
        return _meaning_of_broken_tls(error.__context__)
    status, reason = error.status, _reason(error)
    if status in _RETRYABLE or status >= 500:
        after = str((error.headers or {}).get("Retry-After", ""))
        return UnavailableError(
            "api_unavailable",
            f"the Kubernetes API answered {status}{reason}",
            retry_after_s=min(int(after), 60) if after.isdecimal() else 2,
        )
    if status == 409:
        return _ConflictError("api_conflict", f"the Kubernetes API answered 409{reason}")
    if status == 404:
        return _NotFoundError(
            "api_not_found",
            f"the Kubernetes API knows no {KIND}s ({GROUP}/{VERSION}) here{reason}: is the operator installed, and "
            "does the namespace exist?",
        )
    if status == 401:
        return MisconfiguredError("api_unauthorized", "the Kubernetes API does not accept trigger's credentials")
    if status == 403:
        return MisconfiguredError(
            "api_forbidden", f"the Kubernetes API forbids it{reason}; trigger's role needs create, get and list"
        )
    return MisconfiguredError("api_refused", f"the Kubernetes API refuses it with {status}{reason}")


def _meaning_of_broken_tls(cause: BaseException | None) -> FlyertimeError:
    """Return what it means that TLS went wrong, which the client alone of all broken connections makes an answer of."""
    inner = cause.args[0] if isinstance(cause, urllib3.exceptions.SSLError) and cause.args else cause
    if isinstance(inner, ssl.SSLCertVerificationError):
        return MisconfiguredError(
            "api_certificate",
            f"the Kubernetes API's certificate is not accepted ({inner.verify_message}): the certificate authority of "
            "the kubeconfig, or of the pod's service account, must have signed it for that address",
        )
    return UnavailableError(
        "api_unavailable", f"the Kubernetes API cannot be reached: {type(inner).__name__}", retry_after_s=2
    )


def _reason(error: ApiException) -> str:
    try:
        message = json.loads(error.body or "").get("message")
    except (ValueError, AttributeError):
        return ""
    text = one_line(message)
    return f" ({text})" if text else ""


def _template(settings: Settings) -> object:
    if settings.spark_template is None:
        return None
    try:
        return msgspec.yaml.decode(Path(settings.spark_template).read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as e:
        raise MisconfiguredError("bad_template", f"FLYERTIME_SPARK_TEMPLATE cannot be read: {one_line(str(e))}") from e


def _configuration(settings: Settings) -> Configuration:
    configuration = Configuration()
    try:
        if settings.kubeconfig is not None:
            load: Any = config.load_kube_config
            load(settings.kubeconfig, client_configuration=configuration, persist_config=False)
        else:
            load = config.load_incluster_config
            load(client_configuration=configuration)
    except Exception as e:
        # Whatever a broken file makes a parser raise; its text could show a key.
        raise MisconfiguredError(
            "no_cluster",
            f"there is no way to the Kubernetes API ({type(e).__name__}): run trigger in a pod with a service account, "
            "or set FLYERTIME_KUBECONFIG to a kubeconfig, or FLYERTIME_LAUNCHER to local",
        ) from e
    configuration.retries = False
    return configuration
