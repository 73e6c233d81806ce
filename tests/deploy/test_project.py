"""What the project says of itself is so: pins, README, Makefile, command line."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from functions.cli import main

ROOT = Path(__file__).parent.parent.parent
PINS = sorted((ROOT / "requirements").glob("*.txt"))
PINS_OF_ALL = (ROOT / "requirements" / "dev.txt").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, BUILD = PYPROJECT["project"], PYPROJECT["build-system"]


def pinned(path: Path) -> dict[str, Version]:
    """Return the versions that a file pins, by canonical name."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


def test_pins_hold_for_the_oldest_python_of_debian() -> None:
    """3.11.2, whose asyncio lacks what redis needs: a package that later versions leave out."""
    assert re.search(r"^async-timeout==\S+ ; python_full_version < '3.11.3'", PINS_OF_ALL, re.MULTILINE)


def required(extra: str) -> list[Requirement]:
    """Return what an extra needs, the extras that it names resolved, and what every part needs."""
    if extra == "build":
        return [Requirement(text) for text in BUILD["requires"]]
    wanted = [Requirement(text) for text in PROJECT["dependencies"]]
    for requirement in map(Requirement, PROJECT["optional-dependencies"][extra]):
        if requirement.name == "flyertime":
            for inner in requirement.extras:
                wanted += required(inner)
        else:
            wanted.append(requirement)
    return wanted


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.stem)
def test_pins_satisfy_what_the_project_asks_for(path: Path) -> None:
    """Each requirement of the extra is pinned, to a version that it allows."""
    versions = pinned(path)

    for requirement in required(path.stem):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{path.name} lacks {name}: run `make pins`"
        assert versions[name] in requirement.specifier, f"{name} {versions[name]} is not {requirement.specifier}"


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.stem)
def test_pins_have_hashes_and_no_address(path: Path) -> None:
    """Every package has a hash, and none says where it comes from."""
    text = path.read_text()

    assert len(re.findall(r"^\S+==", text, re.MULTILINE)) == len(
        re.findall(r"^\S+==.* \\\n +--hash=", text, re.MULTILINE)
    )
    assert not re.search(r"://|--index|--find-links| @ ", text)


def test_images_run_what_is_tested() -> None:
    """The images' pins are those of the development environment."""
    tested = pinned(ROOT / "requirements" / "dev.txt")

    for path in PINS:
        assert pinned(path).items() <= tested.items(), f"{path.name} differs: run `make pins`"


@pytest.mark.parametrize("name", ["docs/settings.md", "docs/operations.md"])
def test_the_tables_of_settings_and_metrics_are_what_the_code_gives(name: str) -> None:
    """Each of the two documents has one, and it is the one that the code itself gives."""
    spec = importlib.util.spec_from_file_location("tables", ROOT / "scripts" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / name).read_text()

    assert re.search(r"^<!-- (settings|metrics): begin -->$", text, re.MULTILINE)
    assert module.with_tables(text) == text, "run `make docs`"


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_the_commands_that_the_documents_name_exist(document: str) -> None:
    """Every make target and every flyertime command that is named is there."""
    text = (ROOT / document).read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named_targets = {word for words in re.findall(r"\bmake((?: [a-z]+)+)`", text) for word in words.split()}
    named_targets |= set(re.findall(r"^\$ make ([a-z]+)$", text, re.MULTILINE))
    named_commands = set(re.findall(r"(?:`|\| |^)flyertime ([a-z]+)", text, re.MULTILINE))

    assert named_targets
    assert set() == named_targets - targets
    assert set() == named_commands - set(main.commands)


def test_the_readmes_paths_exist() -> None:
    """Every folder and test that the README points to is there."""
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"`((?:functions|spark|tests|docs)/[a-zA-Z_/.]*)`", text))

    assert named
    assert [] == [path for path in sorted(named) if not (ROOT / path).exists()]


def test_every_make_target_says_what_it_does() -> None:
    """`make` alone lists them all."""
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)

    assert phony is not None
    assert set(phony[1].split()) == set(re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE))
