"""Settings, read once into one frozen object: flag > environment (`NPUQ_*`) > project file > user file > default.

Nothing is read at import. Unknown keys in a file are an error. Secrets (the password in a URL) never leave through
`Settings.public()`.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qs, quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from npuq.errors import ConfigError

PROJECT_FILE: Final = Path("npuq.toml")
MAX_SOCKET_PATH: Final = 100
LONG_ATTEMPT_SECONDS: Final = 600.0
"""An attempt that has run longer than this gets the long lease."""
#: A password ends at the last `@` before a blank or a quote: drivers take `/` in it, so it must not end the search.
_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):([^@\s\"']*)@")


class Timing(BaseModel):
    """Leases, limits and waits, in seconds. Tests run them at a tenth with `scaled`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beat_seconds: float = Field(default=2.0, gt=0)
    """Between two heartbeats of an attempt or a host. Shorter than the 5 s that lease safety alone would need, because
    a cancel rides on the beat and has to free a chip within 5 s."""
    suspect_seconds: float = Field(default=30.0, gt=0)
    """A host silent this long gets no new work."""
    lost_seconds: float = Field(default=120.0, gt=0)
    """Length of a lease; an attempt is lost when it is over and the beat stood still that long."""
    lost_long_seconds: float = Field(default=600.0, gt=0)
    """The same for attempts that have run longer than ten minutes: waiting costs less than redoing."""
    resend_seconds: float = Field(default=20.0, gt=0)
    """A message that nobody claimed is sent again after this."""
    kill_wait_seconds: float = Field(default=30.0, gt=0)
    """From TERM to KILL where a child may finish tidily; a cancel waits a tenth of it."""
    drain_seconds: float = Field(default=30.0, ge=0)
    """A worker told to stop finishes its job in this time, else hands it back."""
    tick_seconds: float = Field(default=1.0, gt=0)
    """The scheduler looks at the world at least this often."""
    probe_seconds: float = Field(default=10.0, gt=0)
    """Between two looks at `npu-smi`."""
    tool_timeout_seconds: float = Field(default=20.0, gt=0)
    """Limit of one call of `npu-smi`; not scaled."""

    def scaled(self, factor: float) -> Self:
        """Return the same waits times `factor`; limits of foreign tools stay."""
        values = {
            name: value if name == "tool_timeout_seconds" else value * factor
            for name, value in self.model_dump().items()
        }
        return type(self)(**values)

    def lease_seconds(self, age_seconds: float) -> float:
        """Return the length of the lease of an attempt that has run for `age_seconds`."""
        return self.lost_long_seconds if age_seconds > LONG_ATTEMPT_SECONDS else self.lost_seconds

    @model_validator(mode="after")
    def _lease_outlives_beats(self) -> Self:
        if self.lost_seconds < 4 * self.beat_seconds:
            raise ValueError("lost_seconds must be at least 4 x beat_seconds, or a late beat costs the attempt")
        return self


class Settings(BaseSettings):
    """All settings of every npuq program."""

    model_config = SettingsConfigDict(
        env_prefix="NPUQ_", env_nested_delimiter="__", frozen=True, extra="forbid", toml_file=None
    )

    home: Path
    broker_url: str | None = None
    """Redis; None: the embedded server of `home`, on a Unix socket."""
    database_url: str | None = None
    """SQLAlchemy URL; None: SQLite in `home`."""
    store_url: str | None = None
    """fsspec URL of the artifact store; None: a folder in `home`."""
    host_name: str | None = None
    """Name of this host in the fleet; None: the machine's."""
    host_slots: int | None = Field(default=None, ge=1, le=256)
    """Host jobs at once; None: one per 8 GiB of memory and per core, at least one."""
    feeders: int | None = Field(default=None, ge=1, le=64)
    """Feeder processes per chip; None: the cores shared evenly among the chips, at least one."""
    sample_cache_bytes: int = Field(default=20 * 2**30, ge=0)
    """Preprocessed samples kept on this host."""
    artifact_cache_bytes: int = Field(default=20 * 2**30, ge=0)
    """Artifacts kept on this host when the store is remote, files of datasets included."""
    log_limit_bytes: int = Field(default=2**20, ge=4096)
    """Log kept per attempt: its beginning and its end."""
    job_timeout_seconds: float = Field(default=6 * 3600.0, gt=0)
    """No step runs longer."""
    timing: Timing = Timing()

    @field_validator("broker_url")
    @classmethod
    def _broker_is_who_it_says(cls, url: str | None) -> str | None:
        return url if url is None or not url.startswith("rediss://") else _with_checked_certificate(url)

    @property
    def broker_socket(self) -> Path:
        """Return the Unix socket of the embedded server: in `home`, or a short path made from it.

        The kernel takes at most 107 characters. The short path depends on the user and `home` alone, so that every
        program agrees on it; `npuq up` makes its folder for this user only.
        """
        usual = self.home / "run" / "redis.sock"
        if len(os.fsencode(usual)) <= MAX_SOCKET_PATH:
            return usual
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(f"/tmp/npuq-{os.getuid()}") / f"{name}.sock"  # noqa: S108 - TMPDIR differs between shells

    @property
    def broker(self) -> str:
        """Return the broker's URL."""
        return self.broker_url or f"redis+socket://{quote(str(self.broker_socket))}"

    @property
    def database(self) -> str:
        """Return the database's SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{quote(str(self.home / 'npuq.sqlite3'))}"

    @property
    def store(self) -> str:
        """Return the artifact store's fsspec URL."""
        return self.store_url or f"file://{self.home / 'store'}"

    def as_environment(self) -> dict[str, str]:
        """Return the variables that give another npuq program exactly these settings; they may hold secrets."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {
            f"NPUQ_{name.upper()}": json.dumps(value) if isinstance(value, dict) else str(value)
            for name, value in values.items()
        }

    def public(self) -> dict[str, Any]:
        """Return the settings for display: passwords in URLs are masked."""
        data: dict[str, Any] = self.model_dump(mode="json")
        data |= {"broker_url": self.broker, "database_url": self.database, "store_url": self.store}
        return {key: redact(value) if isinstance(value, str) else value for key, value in data.items()}


def redact(text: str) -> str:
    """Return text with the passwords of URLs masked."""
    return _PASSWORD.sub(r"\1:***@", text)


def _with_checked_certificate(url: str) -> str:
    """Return a URL over TLS with which every client checks whom it talks to: kombu's default is not to.

    Raises:
        ValueError: the URL turns the checks off.
    """
    options = parse_qs(urlsplit(url).query)
    for name, wanted in (("ssl_cert_reqs", {"required", "CERT_REQUIRED"}), ("ssl_check_hostname", {"true", "True"})):
        if not set(options.get(name, ())) <= wanted:
            raise ValueError(f"{name} does not check whom it talks to; leave it out, and name your CA in ssl_ca_certs")
    if "ssl_cert_reqs" in options:
        return url
    return f"{url}{'&' if options else '?'}ssl_cert_reqs=required"


def default_home() -> Path:
    """Return where npuq keeps its files unless told otherwise."""
    from platformdirs import user_data_path

    return user_data_path("npuq", appauthor=False)


def user_file() -> Path:
    """Return the path of the user's own settings."""
    from platformdirs import user_config_path

    return user_config_path("npuq", appauthor=False) / "config.toml"


def load_settings(**flags: Any) -> Settings:  # noqa: ANN401 - checked by the model
    """Read the settings; `flags` win over everything, those that are None are not given.

    Raises:
        ConfigError: an unknown key, a malformed value or file; the message names it.
    """

    class _Sources(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no .env files
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no secret files
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            files = [path for path in (PROJECT_FILE, user_file()) if path.is_file()]
            return (
                init_settings,
                env_settings,
                *(TomlConfigSettingsSource(settings_cls, toml_file=path) for path in files),
                InitSettingsSource(settings_cls, {"home": default_home()}),
            )

    try:
        read = _Sources(**{name: value for name, value in flags.items() if value is not None})
    except (ValidationError, ValueError) as error:
        raise ConfigError(f"settings: {_explain(error)}") from error
    return Settings.model_construct(**{**dict(read), "home": read.home.expanduser().absolute()})


def _explain(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False)
    )
