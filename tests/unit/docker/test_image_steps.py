"""What the images' steps name: every program, folder and version, held against the package that they install."""

import json
import re
import shlex
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from emulator.install import FleetPlan, install
from tests.unit.docker.dockerfile import Dockerfile, read
from tests.unit.docker.test_dockerfiles import DOCKER, FILES, ROOT, STAGES, canonical

#: Where the images put npuq, and what they put beside what pip makes there.
VENV = "/opt/npuq"
#: Programs of the base images that the steps call.
BASE_PROGRAMS = {"python", "python3", "useradd", "install"}


def project() -> dict[str, object]:
    """Return the package's own description."""
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def pins(path: Path) -> dict[str, str]:
    """Return name -> version of a file of constraints."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines)}


def environment(file: Dockerfile, stage: str) -> dict[str, str]:
    """Return what a stage and those below it set."""
    merged: dict[str, str] = {}
    for each in reversed(file.lineage(stage)):
        for text in file.of("ENV", each):
            merged |= dict(pair.split("=", 1) for pair in shlex.split(text))
    return merged


def programs_of(file: Dockerfile, stage: str) -> set[str]:
    """Return what can be called below the virtual environment at the end of a stage."""
    scripts = project()["scripts"]
    assert isinstance(scripts, dict)
    found = {f"{VENV}/bin/{name}" for name in (*scripts, "pip", "python")}
    for text in file.of("COPY", stage):
        words = [word for word in shlex.split(text) if not word.startswith("--")]
        if words[-1].startswith(f"{VENV}/bin/"):
            assert (ROOT / words[0]).is_file()
            found.add(words[-1])
    return found


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_everything_that_a_container_starts_is_in_its_image(name: str, stage: str) -> None:
    """Entry point and health check name programs that the wheel, or a copied file, puts where they say."""
    file = read(DOCKER / name)
    entry, check = file.last("ENTRYPOINT", stage), file.last("HEALTHCHECK", stage)
    assert entry is not None
    assert check is not None
    for started in (json.loads(entry)[0], json.loads(check.partition("CMD ")[2])[0]):
        assert started in programs_of(file, stage)


@pytest.mark.parametrize("name", FILES)
def test_steps_call_programs_that_are_there(name: str) -> None:
    """Of the base image, or of the environment that an earlier step made."""
    file = read(DOCKER / name)
    for step in file.of("RUN"):
        for command in step.split("&&"):
            program = shlex.split(command)[0]
            assert program in BASE_PROGRAMS or program == f"{VENV}/bin/pip", command
    assert any(f"-m venv {VENV}" in step for step in file.of("RUN"))


@pytest.mark.parametrize("name", FILES)
def test_build_arguments_that_the_files_speak_of_reach_their_steps(name: str) -> None:
    """The builder drops an argument that no stage declares."""
    file = read(DOCKER / name)
    spoken_of = set(re.findall(r"--build-arg (\w+)=", (DOCKER / name).read_text()))
    declared = {text.partition("=")[0] for text in file.of("ARG")}
    assert spoken_of <= declared
    building = {stage for stage in file.stages if any("pip install" in step for step in file.of("RUN", stage))}
    assert building
    for stage in building:
        inside = {text for each in file.lineage(stage) for text in file.of("ARG", each)}
        assert {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"} <= inside
        constraints = environment(file, stage)["PIP_CONSTRAINT"]
        (workdir,) = {text for each in file.lineage(stage) for text in file.of("WORKDIR", each)}
        assert (ROOT / Path(constraints).relative_to(workdir)).is_file()


def test_the_emulated_image_finds_the_emulated_tools(tmp_path: Path) -> None:
    """Its variables name what `npuq emulator install` writes into the volume."""
    variables = environment(read(DOCKER / "Dockerfile"), "emulated")
    home = variables["NPUQ_EMULATOR_HOME"]
    assert home == f"{variables['NPUQ_HOME']}/emulator"
    install(tmp_path, FleetPlan(cards=1))

    def written(path: str) -> Path:
        return tmp_path / Path(path).relative_to(home)

    assert (written(variables["PATH"].split(":")[0]) / "npu-smi").is_file()
    assert (written(variables["PATH"].split(":")[0]) / "atc").is_file()
    assert (written(variables["PYTHONPATH"]) / "aclruntime.py").is_file()
    assert written(variables["ASCEND_TOOLKIT_HOME"]).is_dir()


def test_the_images_get_the_versions_that_the_tests_run_with() -> None:
    """One version of each thing, here and there."""
    tested, shipped = pins(ROOT / "constraints.txt"), pins(DOCKER / "constraints.txt")
    assert {name: version for name, version in shipped.items() if tested.get(name) != version} == {}


def test_whatever_an_image_installs_is_pinned_down_to_the_last_dependency() -> None:
    """Also what its dependencies depend on, and what builds the package; read from what is installed here."""
    shipped = pins(DOCKER / "constraints.txt")
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    wanted = [*_list(project()["dependencies"]), "hatchling"]
    for extra in {extra for name in FILES for extra in _extras(read(DOCKER / name))}:
        wanted += extras[extra]
    seen: set[str] = set()
    waiting = [Requirement(text) for text in wanted]
    while waiting:
        requirement = waiting.pop()
        name = canonical(requirement.name)
        if name in seen:
            continue
        seen.add(name)
        waiting += _needs(requirement)
    assert sorted(seen - shipped.keys()) == []


def _list(value: object) -> list[str]:
    assert isinstance(value, list)
    return value


def _extras(file: Dockerfile) -> list[str]:
    return [
        extra for text in file.of("RUN") for found in re.findall(r'"\.\[(.+?)\]"', text) for extra in found.split(",")
    ]


def _needs(requirement: Requirement) -> list[Requirement]:
    """Return what a distribution needs here, extras that were asked for included."""
    try:
        described = distribution(requirement.name).requires or []
    except PackageNotFoundError:
        pytest.fail(f"{requirement.name} is not installed; run: make install")
    chosen = ("", *requirement.extras)
    parsed = [Requirement(text) for text in described]
    return [
        each
        for each in parsed
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in chosen)
    ]
