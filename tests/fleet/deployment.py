"""A fleet as docs/deploy.md describes it: Redis, PostgreSQL and an S3 store behind TLS, users with the least rights.

The servers are those that `tests/services` starts with the deployment's own scripts; TLS ends in front of them. Every
program gets its addresses, passwords and certificates from the environment alone.
"""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from db import devices, schema
from db.engine import open_database
from npuq.config import Settings
from npuq.entry import INSTALLATION
from npuq.states import DeviceKind, DeviceState
from tests.fleet.fleet import FAST_TIMING
from tests.fleet.programs import KeptProgram
from tests.services import certificates
from tests.services.deployed_postgresql import DeployedPostgresql
from tests.services.deployed_redis import PASSWORD, USER, DeployedRedis
from tests.services.s3_server import BUCKET, S3Server
from tests.services.tls_proxy import TlsProxy
from tests.services.waiting import wait_until

CHIP: Final = "310P3"
LIMIT_SECONDS: Final = 90.0
STOP_LIMIT_SECONDS: Final = 20.0
NPUQ: Final = str(Path(sys.executable).parent / "npuq")


class Deployment:
    """Services behind TLS, one scheduler, one host with one emulated chip; use it as a context manager.

    Args:
        folder: an empty folder for everything.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open = ExitStack()
        self._programs: list[KeptProgram] = []

    def __enter__(self) -> Self:
        try:
            self._start_services()
            self._make_schema()
            self._start_programs()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_services(self) -> None:
        self.certificates = certificates.make(self.folder)
        self.redis = DeployedRedis()
        self._open.callback(self.redis.close)
        self.postgresql = DeployedPostgresql()
        self._open.callback(self.postgresql.close)
        self.s3 = S3Server()
        self._open.callback(self.s3.close)
        tls = self._open.enter_context
        self.redis_tls = tls(TlsProxy(self.certificates, str(self.redis.socket)))
        self.postgresql_tls = tls(TlsProxy(self.certificates, self.postgresql.port, postgresql=True))
        self.s3_tls = tls(TlsProxy(self.certificates, self.s3.port))

    def _make_schema(self) -> None:
        owned = open_database(self.environment("laptop", "owner")["NPUQ_DATABASE_URL"])
        schema.upgrade(owned)
        owned.dispose()
        self.database = open_database(self.environment("laptop")["NPUQ_DATABASE_URL"])
        self._open.callback(self.database.dispose)

    def _start_programs(self) -> None:
        install = ["install", "--home", str(self.folder / "emulator"), "--cards", "1", "--chip", CHIP]
        command = [sys.executable, "-m", "emulator", *install]
        subprocess.run(command, cwd=INSTALLATION, check=True, capture_output=True, timeout=LIMIT_SECONDS)
        for name in ("scheduler", "worker"):
            program = KeptProgram(name, [NPUQ, name], self.environment(name), self.folder / f"{name}.log")
            self._programs.append(program)
            program.start()
        wait_until(self._has_chip, "the host's chip is online", LIMIT_SECONDS)

    def _has_chip(self) -> bool:
        for program in self._programs:
            if not program.alive:
                raise RuntimeError(f"{program.name} ended:\n{program.log.read_text()[-2000:]}")
        with self.database.read() as connection:
            found = devices.find(connection, suspect_seconds=FAST_TIMING.suspect_seconds, kind=DeviceKind.NPU)
        return [device.state for device in found] == [DeviceState.ONLINE]

    def environment(self, home: str, role: str = "fleet") -> dict[str, str]:
        """Return the environment of a program: a home of its own, as on a host of its own, and the services."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("NPUQ_", "AWS_"))}
        emulator, authority = self.folder / "emulator", str(self.certificates.authority)
        settings = Settings(home=self.folder / home, host_name="h1", host_slots=1, feeders=1, timing=FAST_TIMING)
        return kept | {
            **settings.as_environment(),
            **self.s3.environment,
            "NPUQ_BROKER_URL": self.broker_url(),
            "NPUQ_DATABASE_URL": self.postgresql.url(
                role, port=self.postgresql_tls.port, sslmode="verify-full", sslrootcert=authority
            ),
            "NPUQ_STORE_URL": f"s3://{BUCKET}",
            "AWS_ENDPOINT_URL_S3": f"https://localhost:{self.s3_tls.port}",
            "AWS_CA_BUNDLE": authority,
            "NPUQ_EMULATOR_HOME": str(emulator),
            "ASCEND_TOOLKIT_HOME": str(emulator / "toolkit"),
            "PATH": os.pathsep.join([str(emulator / "bin"), str(Path(NPUQ).parent), kept.get("PATH", "")]),
            "PYTHONPATH": os.pathsep.join([str(emulator / "python"), str(INSTALLATION)]),
        }

    def broker_url(self) -> str:
        """Return the broker's URL as another host has it."""
        authority = quote(str(self.certificates.authority))
        return f"rediss://{USER}:{PASSWORD}@localhost:{self.redis_tls.port}/0?ssl_ca_certs={authority}"

    def npuq(
        self, *arguments: str, role: str = "fleet", code: int = 0, **changes: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as a laptop does, with `changes` of its environment; it must exit with `code`."""
        done = subprocess.run(
            [NPUQ, *arguments],
            env=self.environment("laptop", role) | changes,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
        )
        assert done.returncode == code, f"npuq {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def close(self) -> None:
        """End everything, the programs first."""
        for program in reversed(self._programs):
            program.stop(STOP_LIMIT_SECONDS)
        self._open.close()
