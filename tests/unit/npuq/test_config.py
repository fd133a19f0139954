import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from npuq.config import LONG_ATTEMPT_SECONDS, MAX_SOCKET_PATH, Settings, Timing, load_settings, redact, user_file
from npuq.errors import ConfigError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current directory, empty, and a user file that is not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    user_file().parent.mkdir(parents=True)
    return folder


def test_a_flag_wins_over_environment_project_user_and_default(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer is taken away in turn, and the next one shows."""
    user_file().write_text('host_name = "user"')
    (project / "npuq.toml").write_text('host_name = "project"')
    monkeypatch.setenv("NPUQ_HOST_NAME", "environment")
    assert load_settings(host_name="flag").host_name == "flag"
    assert load_settings(host_name=None).host_name == "environment"
    monkeypatch.delenv("NPUQ_HOST_NAME")
    assert load_settings().host_name == "project"
    (project / "npuq.toml").unlink()
    assert load_settings().host_name == "user"
    user_file().unlink()
    assert load_settings().host_name is None


def test_layers_are_merged_down_to_single_values(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One timing from each place."""
    user_file().write_text("[timing]\ntick_seconds = 3.0\nresend_seconds = 33.0")
    (project / "npuq.toml").write_text("[timing]\nresend_seconds = 44.0")
    monkeypatch.setenv("NPUQ_TIMING__PROBE_SECONDS", "5")
    timing = load_settings().timing
    assert (timing.tick_seconds, timing.resend_seconds, timing.probe_seconds) == (3.0, 44.0, 5.0)
    assert timing.lost_seconds == Timing().lost_seconds


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("no_such_setting = 1", "no_such_setting"),
        ("[timing]\nno_such_wait = 1", "timing.no_such_wait"),
        ("host_slots = 0", "host_slots"),
        ("[timing]\nlost_seconds = 1", "lost_seconds must be at least"),
        ("host_name = ", "settings"),
    ],
)
def test_mistakes_in_a_file_are_named(project: Path, text: str, named: str) -> None:
    """An unknown key, a value out of range, a lease too short and broken TOML are refused, and the text says which."""
    (project / "npuq.toml").write_text(text)
    with pytest.raises(ConfigError, match=named):
        load_settings()


def test_the_home_is_absolute_and_known_by_default(project: Path) -> None:
    """A relative home or `~` means the same for every program that is started later."""
    assert load_settings(home="here").home == project / "here"
    assert load_settings(home="~/there").home == Path.home() / "there"
    assert load_settings().home.is_absolute()


def test_the_environment_gives_another_program_exactly_these_settings(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `as_environment` returns is read back as the same object."""
    settings = load_settings(home=project, broker_url="redis://h:1/0", timing=Timing().scaled(0.5), host_slots=3)
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


@given(
    user=st.from_regex(r"[a-z]{0,8}", fullmatch=True),
    password=st.from_regex(r"[A-Za-z0-9/!#%:+._-]{1,20}", fullmatch=True),
)
def test_no_password_of_a_url_survives_redaction(user: str, password: str) -> None:
    """Whatever a driver takes as a password is masked, in the middle of a sentence too."""
    secret = f"<{password}>"
    url = f"postgresql+pg8000://{user}:{secret}@host:5432/npuq"
    assert secret not in redact(f"cannot reach {url} or {url}; check it")
    assert "host:5432/npuq" in redact(url)


@pytest.mark.parametrize("text", ["redis://host:6379/0", "see https://host:80/a and mail me@home", "file:///tmp/store"])
def test_text_without_a_password_stays_as_it_is(text: str) -> None:
    """Ports and addresses of mail are not secrets."""
    assert redact(text) == text


def test_public_settings_hide_secrets(project: Path) -> None:
    """`config show` never prints a password."""
    settings = load_settings(
        home=project,
        broker_url="redis://:s3cret@h:6379/0",
        database_url="postgresql://u:s3cret@h/npuq",
        store_url="sftp://u:s3cret@h/store",
    )
    shown = json.dumps(settings.public())
    assert "s3cret" not in shown
    assert shown.count("***") == 3


def test_a_home_with_blanks_and_signs_makes_urls_that_lead_there(tmp_path: Path) -> None:
    """The file that SQLAlchemy opens and the socket that Redis opens lie in the home."""
    settings = Settings(home=tmp_path / "my home#1?")
    assert make_url(settings.database).database == str(settings.home / "npuq.sqlite3")
    assert settings.store == f"file://{settings.home / 'store'}"


def test_a_long_home_gets_a_short_socket(tmp_path: Path) -> None:
    """The kernel takes about a hundred characters; every program finds the same short path."""
    settings = Settings(home=tmp_path / ("long" * 40))
    assert len(os.fsencode(settings.broker_socket)) <= MAX_SOCKET_PATH
    assert settings.broker_socket == Settings(home=settings.home).broker_socket
    assert settings.broker_socket != Settings(home=tmp_path / ("other" * 40)).broker_socket


def test_waits_are_scaled_but_foreign_tools_keep_their_time() -> None:
    """Tests run at a tenth; `npu-smi` is not faster for it."""
    timing = Timing().scaled(0.1)
    assert timing.lost_seconds == pytest.approx(Timing().lost_seconds / 10)
    assert timing.tool_timeout_seconds == Timing().tool_timeout_seconds


def test_long_attempts_get_long_leases() -> None:
    """Ten minutes decide."""
    timing = Timing()
    assert timing.lease_seconds(LONG_ATTEMPT_SECONDS) == timing.lost_seconds
    assert timing.lease_seconds(LONG_ATTEMPT_SECONDS + 1) == timing.lost_long_seconds


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("rediss://h:6379/0", "rediss://h:6379/0?ssl_cert_reqs=required"),
        ("rediss://u:p@h/0?ssl_ca_certs=/ca.pem", "rediss://u:p@h/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required"),
        ("rediss://h/0?ssl_cert_reqs=required", "rediss://h/0?ssl_cert_reqs=required"),
        ("redis://h/0", "redis://h/0"),
    ],
)
def test_tls_to_the_broker_checks_the_certificate(tmp_path: Path, given: str, used: str) -> None:
    """Without the option Celery's transport would encrypt to whoever answers."""
    assert load_settings(home=tmp_path, broker_url=given).broker == used


@pytest.mark.parametrize("option", ["ssl_cert_reqs=none", "ssl_cert_reqs=CERT_OPTIONAL", "ssl_check_hostname=false"])
def test_unchecked_tls_to_the_broker_is_refused(tmp_path: Path, option: str) -> None:
    """The message names the setting and what to do instead, and keeps the password to itself."""
    with pytest.raises(ConfigError, match=r"broker_url.*ssl_ca_certs") as caught:
        load_settings(home=tmp_path, broker_url=f"rediss://u:s3cret@h/0?{option}")
    assert "s3cret" not in str(caught.value)
