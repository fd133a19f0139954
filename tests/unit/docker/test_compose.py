"""Rules for the compose files, and that everything they name exists: commands, options, settings, files, variables."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.main import program
from npuq.config import Settings
from tests.unit.docker.dockerfile import read
from tests.unit.docker.test_dockerfiles import DOCKER, pinned

FILES = ("compose.yaml", "compose.npu.yaml")
VARIABLE = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)(:[?-][^}]*)?\}")
KNOWN_KEYS = frozenset(
    {"build", "image", "command", "entrypoint", "environment", "volumes", "tmpfs", "ports", "healthcheck", "restart"}
    | {"read_only", "cap_drop", "security_opt", "pids_limit", "logging", "user", "shm_size", "depends_on", "profiles"}
    | {"stop_grace_period", "group_add", "devices", "ulimits"}
)


def compose(name: str) -> dict[str, Any]:
    """Return a compose file, its anchors and merges resolved."""
    document: dict[str, Any] = yaml.safe_load((DOCKER / name).read_text())
    return document


SERVICES = [(name, service) for name in FILES for service in compose(name)["services"]]
OURS = [(name, service) for name, service in SERVICES if "build" in compose(name)["services"][service]]


@pytest.fixture
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return one service."""
    name, key = request.param
    found: dict[str, Any] = compose(name)["services"][key]
    return found


def once(service: dict[str, Any]) -> bool:
    """Tell whether a service does one thing and ends."""
    return bool(service["restart"] == "on-failure")


@pytest.mark.parametrize("service", SERVICES, indirect=True, ids=lambda each: each[1])
def test_services_are_hardened(service: dict[str, Any]) -> None:
    """Read-only, no capabilities, no new privileges, a bounded log and number of processes, a pinned image."""
    assert service.keys() <= KNOWN_KEYS
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert service["logging"]["options"]["max-size"]
    assert "privileged" not in service
    if "build" not in service:
        assert pinned(service["image"])
        assert not str(service["user"]).startswith("0")


@pytest.mark.parametrize("service", SERVICES, indirect=True, ids=lambda each: each[1])
def test_secrets_come_from_the_environment(service: dict[str, Any]) -> None:
    """Every value that looks like a secret is a variable that must be set."""
    for key, value in service.get("environment", {}).items():
        if re.search(r"(?i)passw|secret|auth", key) and key != "POSTGRES_INITDB_ARGS":
            assert re.fullmatch(r"\$\{[A-Z_]+:\?\}", value), key
        for inline in re.findall(r"//[^/@:]*:([^@]*)@", str(value)):
            assert re.fullmatch(r"\$\{[A-Z_]+:\?\}", inline), key


@pytest.mark.parametrize("name", FILES)
def test_every_variable_is_in_the_example(name: str) -> None:
    """`.env.example` lists what a person has to fill in, with no secret filled in."""
    example = dict(
        line.split("=", 1) for line in (DOCKER / ".env.example").read_text().splitlines() if re.match(r"[A-Z]", line)
    )
    used = {variable for variable, _ in VARIABLE.findall((DOCKER / name).read_text())}
    assert used <= example.keys()
    assert {key: value for key, value in example.items() if "PASSWORD" in key or "SECRET" in key if value} == {}


def test_the_example_holds_nothing_that_no_file_uses() -> None:
    """A person fills in what has an effect."""
    used = {variable for name in FILES for variable, _ in VARIABLE.findall((DOCKER / name).read_text())}
    assert {
        line.split("=")[0] for line in (DOCKER / ".env.example").read_text().splitlines() if line[:1].isupper()
    } == used


def test_other_hosts_reach_the_services_through_checked_tls_only() -> None:
    """Every address with the services' name is encrypted, and names the authority that is mounted."""
    worker = compose("compose.npu.yaml")["services"]["worker"]
    settings = worker["environment"]
    assert settings["NPUQ_BROKER_URL"].startswith("rediss://")
    assert settings["NPUQ_BROKER_URL"].endswith("?ssl_ca_certs=/etc/npuq/ca.pem")
    assert settings["NPUQ_DATABASE_URL"].endswith("?sslmode=verify-full&sslrootcert=/etc/npuq/ca.pem")
    assert settings["AWS_ENDPOINT_URL_S3"].startswith("https://")
    assert settings["AWS_CA_BUNDLE"] == "/etc/npuq/ca.pem"
    assert "${NPUQ_CA:?}:/etc/npuq/ca.pem:ro" in worker["volumes"]


@pytest.mark.parametrize("name", FILES)
def test_compose_itself_accepts_a_file(name: str, tmp_path: Path) -> None:
    """Where its plugin is installed: it needs no engine for that."""
    if shutil.which("docker") is None or subprocess.run(["docker", "compose", "version"], check=False).returncode:
        pytest.skip("docker compose is not installed")
    filled = re.sub(r"=$", "=x", (DOCKER / ".env.example").read_text(), flags=re.MULTILINE)
    (tmp_path / "env").write_text(filled)
    command = ["docker", "compose", "--env-file", str(tmp_path / "env"), "--profile", "emulated"]
    done = subprocess.run(
        [*command, "-f", DOCKER / name, "config", "--quiet"], check=False, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_refers_to_exists(name: str) -> None:
    """Dockerfiles, stages, mounted scripts, volumes and the services that are waited for."""
    document = compose(name)
    for service in document["services"].values():
        if "build" in service:
            dockerfile = DOCKER.parent / service["build"]["dockerfile"]
            assert service["build"]["target"] in read(dockerfile).stages
            assert set(service["build"].get("args", {})) <= {
                text.partition("=")[0] for text in read(dockerfile).of("ARG")
            }
        for volume in service.get("volumes", ()):
            source = VARIABLE.sub("/variable", volume).split(":")[0]
            if source.startswith("./"):
                assert (DOCKER / source).is_file()
            elif not source.startswith("/"):
                assert source in document["volumes"]
        for other, how in service.get("depends_on", {}).items():
            wanted = document["services"][other]
            assert once(wanted) == (how["condition"] == "service_completed_successfully")
            assert once(wanted) or "healthcheck" in wanted


@pytest.mark.parametrize("service", OURS, indirect=True, ids=lambda each: each[1])
def test_commands_and_settings_are_npuqs(service: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command parses as npuq's own, every NPUQ_ variable is a setting."""
    monkeypatch.setenv("NPUQ_HOME", "/nonexistent")
    parse([VARIABLE.sub("2", word) for word in service["command"]])
    settings = {f"NPUQ_{field.upper()}" for field in Settings.model_fields}
    given = {key for key in service.get("environment", {}) if key.startswith("NPUQ_")}
    assert given <= settings


@pytest.mark.parametrize("check", [["db", "check"], ["worker"], ["scheduler"], ["db", "upgrade"]], ids=" ".join)
def test_commands_of_the_dockerfiles_are_npuqs(check: list[str]) -> None:
    """What the health checks and default commands call."""
    parse(check)
    assert any(
        f'"{check[-1]}"' in (DOCKER / name).read_text() for name in ("Dockerfile", "Dockerfile.npu")
    ) or check == [
        "db",
        "upgrade",
    ]


def parse(words: list[str]) -> None:
    """Read a command line of npuq's as the program would, and run nothing; raises what typer raises."""
    command: Any = program()
    context = command.make_context("npuq", list(words))
    while words and hasattr(command, "resolve_command"):
        _, command, words = command.resolve_command(context, words)
        context = command.make_context(command.name, list(words), parent=context)
        if not hasattr(command, "resolve_command"):
            break


def test_a_mistyped_command_would_be_noticed() -> None:
    """The parser above refuses what npuq does not have."""
    for words in (["schedule"], ["db", "up"], ["worker", "--wrong"]):
        with pytest.raises(Exception, match=r"No such (?:command|option)"):
            parse(words)


@pytest.mark.parametrize("name", FILES)
def test_services_that_stay_restart_and_tell_their_health(name: str) -> None:
    """Those of ours have the health check of their image."""
    for service in compose(name)["services"].values():
        if not once(service):
            assert service["restart"] == "unless-stopped"
            assert "healthcheck" in service or service["build"]["target"] in {"services", "emulated", "worker"}


def test_ports_are_bound_to_one_address() -> None:
    """Never to all of a host's by default."""
    for name, key in SERVICES:
        for port in compose(name)["services"][key].get("ports", ()):
            assert port.startswith("${NPUQ_BIND:-127.0.0.1}:")


def test_the_npu_worker_sees_devices_driver_and_locks() -> None:
    """What the driver needs in a container, and the folder in which a host's workers agree on its chips."""
    worker = compose("compose.npu.yaml")["services"]["worker"]
    devices = dict(device.split(":") for device in worker["devices"])
    assert {"/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"} <= devices.keys()
    assert any(re.fullmatch(r"/dev/davinci\d+", device) for device in devices)
    assert all(inside == outside for outside, inside in devices.items())
    mounted = {volume.split(":")[-2 if volume.endswith(":ro") else -1] for volume in worker["volumes"]}
    assert {
        "/usr/local/dcmi",
        "/usr/local/bin/npu-smi",
        "/usr/local/Ascend/driver/lib64",
        "/usr/local/Ascend/driver/version.info",
        "/etc/ascend_install.info",
    } <= mounted
    assert "/tmp/npuq-locks" in mounted  # noqa: S108 - where worker.locks keeps those of real chips
    assert worker["group_add"]
