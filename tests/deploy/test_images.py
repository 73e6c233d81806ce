"""The Dockerfiles, read as far as can be without a container engine."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from functions.core.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILES = [ROOT / "functions" / "Dockerfile", ROOT / "spark" / "Dockerfile"]


class Instruction(NamedTuple):
    """One instruction, its continued lines joined."""

    word: str
    text: str


def stages_of(path: Path) -> list[list[Instruction]]:
    """Return the instructions of each stage; what stands before the first FROM belongs to it."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    stages: list[list[Instruction]] = [[]]
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, text = line.partition(" ")
        if word == "FROM" and any(instruction.word == "FROM" for instruction in stages[-1]):
            stages.append([])
        stages[-1].append(Instruction(word, text))
    return stages


def texts(stage: list[Instruction], word: str) -> list[str]:
    """Return what all instructions of a kind say."""
    return [instruction.text for instruction in stage if instruction.word == word]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_bases_are_pinned_and_can_be_replaced(path: Path) -> None:
    """By a version, never latest; by an argument, so that a digest can stand there."""
    stages = stages_of(path)
    arguments = dict(text.split("=", 1) for text in texts(stages[0], "ARG"))

    assert all(re.search(r":[\w.]+-", base) for base in arguments.values())
    for stage in stages:
        (base,) = texts(stage, "FROM")
        assert re.fullmatch(r"\$\{(\w+)\}( AS \w+)?", base)
        assert base[2 : base.index("}")] in arguments


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_every_package_is_installed_by_its_hash_or_is_ours(path: Path) -> None:
    """Nothing is fetched that was not pinned, and no pip is left behind."""
    commands = [part for stage in stages_of(path) for text in texts(stage, "RUN") for part in text.split("&&")]
    installs = [command for command in commands if "pip install" in command]

    assert installs
    for command in installs:
        assert "--require-hashes" in command or ("--no-deps" in command and "dist/" in command)
    assert any("pip uninstall" in command for command in commands)
    assert all("--no-build-isolation" in command for command in commands if "pip wheel" in command)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_what_is_copied_is_there_and_is_let_through(path: Path) -> None:
    """From the repository: by .dockerignore's leave."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for stage in stages_of(path):
        for text in texts(stage, "COPY"):
            if not text.startswith("--from"):
                for source in shlex.split(text)[:-1]:
                    assert (ROOT / source).exists(), source
                    assert source.partition("/")[0] in allowed, source


@pytest.mark.parametrize(
    ("path", "user"), [(DOCKERFILES[0], "65532:65532"), (DOCKERFILES[1], "185")], ids=["functions", "spark"]
)
def test_the_last_stage_runs_as_nobody(path: Path, user: str) -> None:
    """Not as root; with bytecode, that of Python's own library too, which nobody can write later."""
    stages = stages_of(path)
    before_user = [text for word, text in stages[-1] if word in {"RUN", "USER"}]

    assert [user] == texts(stages[-1], "USER")
    assert user == before_user.pop()
    assert any("compileall" in text and "/usr/local/lib/python3" in text for text in before_user)
    assert not any("PYTHONDONTWRITEBYTECODE" in text or "--no-compile" in text for stage in stages for _, text in stage)


def test_the_functions_image_starts_the_server() -> None:
    """In the shell's place, so that it gets the stop; on the port that Knative sets (tests/test_server.py)."""
    (command,) = texts(stages_of(DOCKERFILES[0])[-1], "CMD")

    assert ["python", "-m", "functions.server"] == json.loads(command)


def test_the_jobs_image_has_what_trigger_asks_for() -> None:
    """Its main file at the path of the setting, Spark in the version of the setting and of the pins."""
    stages = stages_of(DOCKERFILES[1])
    arguments = dict(text.split("=", 1) for text in texts(stages[0], "ARG"))
    settings = Settings()
    folder = settings.spark_main_file.removeprefix("local://").removesuffix("/main.py")

    assert any(text.split("&&")[-1].strip().endswith(f" {folder}") for text in texts(stages[-2], "RUN"))
    assert settings.spark_version == arguments["SPARK_IMAGE"].partition(":")[2].partition("-")[0]
    assert f"pyspark=={settings.spark_version} " in (ROOT / "requirements" / "spark.txt").read_text()
