"""Every answer that an API server may give, told for what it means, and what is wrong before one is asked."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from functions.adapters.spark_operator import OperatorLauncher
from functions.core.errors import MisconfiguredError, UnavailableError
from functions.core.settings import Settings
from tests.adapters.operator_runs import NAME, TIMEOUT_S, runs, start
from tests.kubernetes_api.clusters import write_kubeconfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Canned:
    """An HTTP server that gives each request the same answer, and counts."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        canned = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                canned.requests.append((self.command, dict(self.headers), body))
                status, headers, content = canned.answers[self.command]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer  # noqa: N815  # http.server's names

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True).start()

    def always(self, status: int, body: object = b"", **headers: str) -> None:
        """Answer so."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers = dict.fromkeys(("GET", "POST"), (status, {"content-type": "application/json", **named}, content))


@pytest.fixture
def canned() -> Iterator[Canned]:
    """An API server that says what it is told to."""
    canned = Canned()
    yield canned
    canned.server.shutdown()
    canned.server.server_close()


@pytest.fixture
def canned_settings(canned: Canned, tmp_path: Path) -> Settings:
    """Settings for it; its user has a token that must not show anywhere."""
    address = {"server": f"http://127.0.0.1:{canned.server.server_port}"}
    return Settings(
        kubeconfig=str(write_kubeconfig(tmp_path / "kubeconfig", address, "s3cr3t-token")),
        kube_timeout_s=TIMEOUT_S,
        spark_image="registry.example/spark:1",
    )


def status_of(code: int, message: str) -> dict[str, object]:
    """Return a refusal as the Kubernetes API words it."""
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}


@pytest.mark.parametrize(
    ("status", "headers", "retry_after_s"),
    [
        (429, {"Retry_After": "7"}, 7),
        (429, {}, 2),
        (429, {"Retry_After": "86400"}, 60),
        (500, {}, 2),
        (502, {}, 2),
        (503, {"Retry_After": "soon"}, 2),
        (504, {}, 2),
        (410, {}, 2),
    ],
)
@pytest.mark.parametrize("work", [start, runs])
def test_what_may_pass_is_asked_once_and_again_later(
    canned: Canned,
    canned_settings: Settings,
    work: Callable[[Settings], object],
    status: int,
    headers: dict[str, str],
    retry_after_s: int,
) -> None:
    """Too many requests and the server's own errors; the client repeats nothing by itself."""
    canned.always(status, status_of(status, "failed calling webhook"), **headers)

    with pytest.raises(UnavailableError, match=rf"answered {status} \(failed calling webhook\)") as caught:
        work(canned_settings)

    assert retry_after_s == caught.value.retry_after_s
    assert 1 == len(canned.requests)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "api_refused"),
        (401, "api_unauthorized"),
        (403, "api_forbidden"),
        (404, "api_not_found"),
        (405, "api_refused"),
        (415, "api_refused"),
        (422, "api_refused"),
    ],
)
@pytest.mark.parametrize("work", [start, runs])
def test_what_will_not_pass_is_the_operators_matter(
    canned: Canned, canned_settings: Settings, work: Callable[[Settings], object], status: int, code: str
) -> None:
    """Every other refusal; asked once."""
    canned.always(status, status_of(status, "spec.driver: Invalid value"))

    with pytest.raises(MisconfiguredError) as caught:
        work(canned_settings)

    assert code == caught.value.code
    assert 1 == len(canned.requests)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"{", b'{"message": 5}', b"\xff"])
@pytest.mark.parametrize(("status", "error"), [(200, UnavailableError), (503, UnavailableError)])
def test_an_answer_of_something_else_is_no_crash(
    canned: Canned, canned_settings: Settings, body: bytes, status: int, error: type[Exception]
) -> None:
    """A proxy's page or half an answer: asked again later, and not repeated to anybody."""
    canned.always(status, body)
    if (status, body) == (200, b'{"message": 5}'):  # a list without items
        assert [] == runs(canned_settings)
        return

    with pytest.raises(error) as caught:
        runs(canned_settings)

    assert "html" not in str(caught.value)


def test_a_conflict_without_an_application_is_asked_again_later(canned: Canned, canned_settings: Settings) -> None:
    """Two that count against one quota conflict too, and then nothing was created."""
    canned.always(409, status_of(409, "Operation cannot be fulfilled on resourcequotas"))
    canned.answers["GET"] = (404, {"content-type": "application/json"}, json.dumps(status_of(404, "no")).encode())

    with pytest.raises(UnavailableError, match="conflict"):
        start(canned_settings)


def test_a_long_reason_is_cut(canned: Canned, canned_settings: Settings) -> None:
    """An explanation stays short, and on one line."""
    canned.always(422, status_of(422, "a\n" * 5000))

    with pytest.raises(MisconfiguredError) as caught:
        start(canned_settings)

    assert len(caught.value.message) < 600
    assert "\n" not in caught.value.message


def test_a_create_is_strict_and_says_who_asks(canned: Canned, canned_settings: Settings) -> None:
    """JSON by its name, unknown fields refused."""
    canned.always(201, {})
    start(canned_settings)

    ((_, headers, body),) = canned.requests
    assert "application/json" == headers["Content-Type"]
    assert NAME == json.loads(body)["metadata"]["name"]


@pytest.mark.parametrize("status", [200, 401, 403, 503])
def test_the_token_shows_nowhere(
    canned: Canned, canned_settings: Settings, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """Not in an error, not in the log, not even where everything is logged."""
    canned.always(status, status_of(status, "no"))
    told = ""
    with caplog.at_level(logging.DEBUG):
        try:
            runs(canned_settings)
        except (UnavailableError, MisconfiguredError) as e:
            told = str(e)

    assert "Bearer s3cr3t-token" == {k.lower(): v for k, v in canned.requests[0][1].items()}["authorization"]
    assert "s3cr3t" not in caplog.text + told


@pytest.mark.parametrize(
    ("kubeconfig", "kind"),
    [(None, "ConfigException"), ("/no/such/file", "ConfigException"), ("broken", "Error")],
)
def test_no_way_to_the_api_ends_at_start(tmp_path: Path, kubeconfig: str | None, kind: str) -> None:
    """The error says which settings there are, and nothing of a broken file's content."""
    if kubeconfig == "broken":
        (tmp_path / "kubeconfig").write_text("users: [{token: s3cr3t\n")
        kubeconfig = str(tmp_path / "kubeconfig")

    with pytest.raises(MisconfiguredError, match=rf"{kind}.*FLYERTIME_KUBECONFIG") as caught:
        OperatorLauncher(Settings(kubeconfig=kubeconfig, spark_image="x"))

    assert "s3cr3t" not in caught.value.message


@pytest.mark.parametrize("content", [None, "spec: {", "\x00", "\xff"])
def test_a_template_that_cannot_be_read_ends_at_start(tmp_path: Path, content: str | None) -> None:
    """The error names the setting."""
    template = tmp_path / "template.yaml"
    if content is not None:
        template.write_bytes(content.encode("latin-1"))

    with pytest.raises(MisconfiguredError, match="FLYERTIME_SPARK_TEMPLATE cannot be read"):
        OperatorLauncher(Settings(spark_image="x", spark_template=str(template)))


def test_settings_that_make_no_application_end_at_start() -> None:
    """Not when the first run is due."""
    with pytest.raises(MisconfiguredError, match="set FLYERTIME_SPARK_IMAGE"):
        OperatorLauncher(Settings())


def test_the_client_is_imported_for_this_launcher_only() -> None:
    """It costs a fifth of a second and 20 MB at a start from zero."""
    code = (
        "import sys; from functions.core.settings import Settings; from functions.trigger.main import build; "
        "build(Settings(launcher='local')); print([name for name in sys.modules if name.startswith('kubernetes')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=Path.cwd()
    )

    assert "[]" == result.stdout.strip()
