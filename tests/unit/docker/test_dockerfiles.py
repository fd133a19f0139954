"""Rules that the images are held to where no engine can build them."""

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.unit.docker.dockerfile import Dockerfile, read

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
FILES = ("Dockerfile", "Dockerfile.npu")
#: The stages that run; everything else only builds.
FINAL = {"Dockerfile": ("services", "emulated"), "Dockerfile.npu": ("worker",)}
STAGES = [(name, stage) for name, stages in FINAL.items() for stage in stages]
SCRIPTS = sorted(DOCKER.glob("*/*.sh"))


@pytest.fixture(params=FILES)
def dockerfile(request: pytest.FixtureRequest) -> Dockerfile:
    """Return each Dockerfile in turn."""
    return read(DOCKER / request.param)


def pinned(image: str) -> bool:
    """Tell whether an image names its registry and a version."""
    registry, _, tag = image.partition("/")[0], *image.rpartition(":")[1:]
    return "." in registry and bool(re.search(r"\d+\.\d+", tag)) and tag != "latest"


def test_every_base_names_a_version(dockerfile: Dockerfile) -> None:
    """No `latest`, no image without a tag or registry."""
    stages = dockerfile.stages
    bases = {image for image in stages.values() if image not in stages}
    assert bases
    assert [image for image in bases if not pinned(image)] == []


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_images_run_as_an_ordinary_user_and_can_be_asked_for_their_health(name: str, stage: str) -> None:
    """The last USER is a number that is not 0; there is a health check; everything started is a list."""
    file = read(DOCKER / name)
    user = file.last("USER", stage)
    assert user is not None
    assert int(user.split(":")[0]) >= 1000
    check = file.last("HEALTHCHECK", stage)
    assert check is not None
    assert json.loads(check.partition("CMD ")[2])
    for word in ("ENTRYPOINT", "CMD"):
        started = file.last(word, stage)
        assert started is not None
        assert isinstance(json.loads(started), list)


def test_nothing_secret_and_nothing_from_the_network_is_built_in(dockerfile: Dockerfile) -> None:
    """No passwords in ARG or ENV, no ADD, no download that a shell runs, no package without a pinned version."""
    for text in (*dockerfile.of("ARG"), *dockerfile.of("ENV")):
        assert not re.search(r"(?i)passw|secret|token|api_?key", text)
    assert dockerfile.of("ADD") == []
    for text in dockerfile.of("RUN"):
        assert not re.search(r"\b(?:curl|wget|sudo|chmod 777)\b", text)
        for command in text.split("&&"):
            if " install " in command and "pip" in command:
                assert "--no-cache-dir" in command
                assert "-c docker/constraints.txt" in command or "--no-deps" in command


def test_everything_copied_is_in_the_repository_and_reaches_the_builder(dockerfile: Dockerfile) -> None:
    """Sources exist; the ignore files let exactly these through."""
    sources = []
    for text in dockerfile.of("COPY"):
        words = shlex.split(text)
        if not any(word.startswith("--from=") for word in words):
            sources += [word for word in words[:-1] if not word.startswith("--")]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    for name in FILES:
        allowed = (DOCKER / f"{name}.dockerignore").read_text().splitlines()
        assert {f"!{source}" for source in sources} <= set(allowed)
        assert allowed.index("*") < min(allowed.index(f"!{source}") for source in sources)


def test_stages_copy_from_stages_that_exist(dockerfile: Dockerfile) -> None:
    """A build context named `wheels` is given on the command line."""
    named = re.findall(r"--from=(\S+)", " ".join(dockerfile.of("COPY")))
    assert set(named) <= {*dockerfile.stages, "wheels"}


def test_all_packages_of_the_project_are_in_the_images(dockerfile: Dockerfile) -> None:
    """A folder that the wheel lists and the image lacks would fail its build."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    copied = {shlex.split(text)[0] for text in dockerfile.of("COPY")}
    assert packages <= copied
    assert "npuq" in project["project"]["scripts"]


def test_extras_exist_and_everything_they_need_is_pinned(dockerfile: Dockerfile) -> None:
    """Each dependency of what is installed has one version in the constraints."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        extra
        for text in dockerfile.of("RUN")
        for found in re.findall(r'"\.\[(.+?)\]"', text)
        for extra in found.split(",")
    }
    wanted = [*project["dependencies"], *(each for extra in extras for each in project["optional-dependencies"][extra])]
    lines = [line for line in (DOCKER / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line)] == []
    known = {canonical(line.partition("==")[0]) for line in lines}
    assert {canonical(re.match(r"[A-Za-z0-9._-]+", each).group()) for each in wanted} <= known  # type: ignore[union-attr]  # fails the test


def canonical(name: str) -> str:
    """Return the one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_scripts_are_programs_that_their_shell_can_read(script: Path) -> None:
    """Executable, a known shell, `set -e`, no syntax error; they replace themselves by what they start."""
    shell = script.read_text().splitlines()[0].removeprefix("#!")
    assert script.stat().st_mode & 0o111
    assert shell in {"/bin/sh", "/bin/bash"}
    assert re.search(r"^set -e", script.read_text(), re.MULTILINE)
    assert subprocess.run([shell, "-n", script], check=False).returncode == 0
    if script.name == "start.sh":
        assert re.search(r"^exec ", script.read_text(), re.MULTILINE)


def test_there_is_no_python_below_docker() -> None:
    """A package of that name would hide the docker SDK."""
    assert list(DOCKER.rglob("*.py")) == []
