"""What can be said of the image without building it."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
ADMITTED = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continuation lines joined, comments gone."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    lines = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines) if word]


def last_stage() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word, rest in instructions():
        if word == "FROM":
            found = {}
        found.setdefault(word, []).append(rest)
    return found


def test_it_runs_as_nobody_in_particular_and_without_a_shell() -> None:
    stage = last_stage()
    assert stage["USER"] == ["65532:65532"]
    assert json.loads(stage["ENTRYPOINT"][0]) == ["python", "-m"]
    assert json.loads(stage["CMD"][0])[0] == "redis_agent.cli"


def test_modules_never_come_from_the_writable_working_directory() -> None:
    stage = last_stage()
    assert stage["WORKDIR"] == stage["VOLUME"] == ["/var/lib/redis-agent"]
    assert "PYTHONSAFEPATH=1" in stage["ENV"][0]


def test_packages_come_by_the_lock_and_its_hashes_only() -> None:
    installs = [rest for word, rest in instructions() if word == "RUN" and " install " in rest and "pip" in rest]
    locked, project = installs
    assert "--require-hashes -r requirements.lock" in locked
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(project.split())
    lock = (ROOT / "requirements.lock").read_text()
    needed = [re.split(r"[<>=]", name)[0] for name in PROJECT["build-system"]["requires"]]
    assert all(re.search(rf"(?m)^{name}==", lock) for name in needed), "what builds the project must be in the lock"


def test_the_python_is_the_one_that_the_project_asks_for() -> None:
    (python,) = [rest.partition("=")[2] for word, rest in instructions() if (word, rest[:6]) == ("ARG", "PYTHON")]
    minor = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert python.startswith(f"{minor}-slim-")


def test_the_context_holds_what_the_build_needs_and_no_more() -> None:
    packages = [name.removesuffix("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]]
    files = ["pyproject.toml", "requirements.lock", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]]
    assert sorted(ADMITTED) == sorted([*packages, *files])


def test_every_place_that_names_the_version_names_the_projects() -> None:
    version = PROJECT["project"]["version"]
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    said = {"compose": compose["x-service"]["image"].partition(":")[2]}
    said["Dockerfile"] = next(rest for word, rest in instructions() if rest.startswith("VERSION=")).partition("=")[2]
    for folder in ("base", "overlays/example"):
        kustomization = yaml.safe_load((ROOT / "deploy" / "kustomize" / folder / "kustomization.yaml").read_text())
        (image,) = kustomization["images"]
        said[folder] = image["newTag"]
    assert set(said.values()) == {version}, said
