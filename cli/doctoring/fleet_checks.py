"""Whether the services of the fleet can be used from here: broker, database, store, clock.

What is written for a test is a few bytes of the store, the same each time.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import psutil

from cli.doctoring.findings import Finding, failed, ok, skipped, warning
from npuq.config import Settings, redact
from npuq.errors import NpuqError

if TYPE_CHECKING:
    from db.engine import Database

CONNECT_LIMIT_SECONDS: Final = 5.0
SKEW_WARNING_SECONDS: Final = 2.0
SKEW_FAILURE_SECONDS: Final = 30.0
SOUND_SQLITE: Final = (3, 51, 3)
"""Earlier ones may lose pages when two connections write and checkpoint at the same moment."""
_SHARED_FILE_SYSTEMS: Final = ("nfs", "cifs", "smb", "fuse.sshfs", "fuse.s3fs", "9p", "glusterfs", "lustre", "ceph")
_KEEPS_ALL: Final = "noeviction"
_SQLITE_PREFIX: Final = "sqlite:///"
_PROBE: Final = b"npuq doctor was here\n"
_START: Final = "start a fleet with: npuq up, or set the URL of the one that there is (see: npuq config show)"


def check_fleet(settings: Settings) -> list[Finding]:
    """Return the findings about the fleet's services."""
    from db.engine import open_database

    file = database_file(settings)
    if file is not None and not file.exists():
        away = failed("database", f"{file} is not there", "start a fleet with: npuq up; or run: npuq db upgrade")
        return [check_broker(settings), away, check_store(settings), skipped("clock", "no database to compare with")]
    database = open_database(settings.database)
    try:
        return [
            check_broker(settings),
            check_database(database, settings),
            *([] if file is None else [check_sqlite(sqlite3.sqlite_version_info), check_file_system(file)]),
            check_store(settings),
            check_clock(database),
        ]
    finally:
        database.dispose()


def database_file(settings: Settings) -> Path | None:
    """Return the file of an SQLite database, None for a server."""
    url = settings.database
    return Path(unquote(url.removeprefix(_SQLITE_PREFIX))) if url.startswith(_SQLITE_PREFIX) else None


def check_broker(settings: Settings) -> Finding:
    """Return whether Redis answers, and keeps what is put into it."""
    from kombu import Connection
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    where = redact(settings.broker)
    try:
        with Connection(settings.broker, connect_timeout=CONNECT_LIMIT_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=CONNECT_LIMIT_SECONDS)
            policy = connection.default_channel.client.info("memory").get("maxmemory_policy", _KEEPS_ALL)
    except (OperationalError, RedisError, OSError, ValueError) as error:
        return failed("broker", f"{where} does not answer: {error}", _START)
    if policy != _KEEPS_ALL:
        found = f"{where} drops keys when its memory is full (maxmemory-policy {policy}), and so messages"
        return warning("broker", found, f"give npuq a Redis of its own with maxmemory-policy {_KEEPS_ALL}")
    return ok("broker", where)


def check_database(database: "Database", settings: Settings) -> Finding:
    """Return whether the database answers and has this version's schema."""
    from db import schema

    where = redact(settings.database)
    try:
        schema.require(database)
    except NpuqError as error:
        what, _, fix = str(error).partition("; ")
        return failed("database", f"{where}: {what}", fix or _START)
    return ok("database", f"{where}, schema {schema.newest_revision()}")


def check_sqlite(version: tuple[int, ...]) -> Finding:
    """Return whether the SQLite library is sound."""
    text = ".".join(str(part) for part in version)
    if version < SOUND_SQLITE:
        sound = ".".join(str(part) for part in SOUND_SQLITE)
        fix = f"use a Python with SQLite {sound} or newer, or PostgreSQL for a fleet that matters"
        return warning("sqlite", f"SQLite {text} may rarely lose pages in its write-ahead log", fix)
    return ok("sqlite", f"SQLite {text}")


def check_file_system(file: Path, mounts: Iterable[tuple[str, str]] | None = None) -> Finding:
    """Return whether the database's file system has the shared memory that the write-ahead log needs.

    Args:
        file: the database.
        mounts: (mount point, type); None: those of this host.
    """
    known = _mounts() if mounts is None else mounts
    parents = {str(path) for path in (file, *file.parents)}
    point, kind = max((each for each in known if each[0] in parents), key=lambda each: len(each[0]), default=("/", ""))
    if kind.startswith(_SHARED_FILE_SYSTEMS):
        fix = "put NPUQ_HOME on a local disk, or use PostgreSQL (NPUQ_DATABASE_URL) for several hosts"
        return failed("file_system", f"{file} lies on {kind} ({point})", fix)
    return ok("file_system", f"{kind or 'unknown'} at {point}")


def _mounts() -> list[tuple[str, str]]:
    return [(each.mountpoint, each.fstype) for each in psutil.disk_partitions(all=True)]


def check_store(settings: Settings) -> Finding:
    """Return whether the store keeps what is put into it: written, read, compared."""
    from db.artifacts import ArtifactStore

    where = redact(settings.store)
    folder = Path(tempfile.mkdtemp(prefix="npuq-doctor-"))
    try:
        store = ArtifactStore(settings.store, folder / "cache")
        probe = folder / "probe"
        probe.write_bytes(_PROBE)
        digest = store.put(probe).digest
        # Another cache, so that a remote store has to give the bytes back.
        kept = ArtifactStore(settings.store, folder / "other").fetch(digest).read_bytes()
    except (NpuqError, OSError) as error:
        return failed("store", f"{where}: {error}", "look at its disk, address and credentials (npuq config show)")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if kept != _PROBE:
        return failed("store", f"{where} gives back other bytes than it was given", "look at its disk")
    return ok("store", where)


def check_clock(database: "Database") -> Finding:
    """Return how far this host's clock is from the database's, which stamps the leases."""
    from sqlalchemy import select

    from db.types import db_now

    try:
        with database.read() as connection:
            before = datetime.now(UTC)
            theirs = connection.execute(select(db_now())).scalar_one()
            after = datetime.now(UTC)
    except NpuqError:
        return skipped("clock", "no database to compare with")
    return judge_skew((theirs - (before + (after - before) / 2)).total_seconds())


def judge_skew(seconds: float) -> Finding:
    """Return what a difference of clocks means; positive: the database is ahead."""
    found = f"{abs(seconds):.1f} s {'behind' if seconds > 0 else 'ahead of'} the database"
    fix = "let both hosts follow a time server (chrony, systemd-timesyncd)"
    if abs(seconds) > SKEW_FAILURE_SECONDS:
        return failed("clock", found, fix)
    return warning("clock", found, fix) if abs(seconds) > SKEW_WARNING_SECONDS else ok("clock", found)
