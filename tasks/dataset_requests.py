"""How the processes of a job get a file of a dataset that is kept in the store: they ask their worker for it.

They decode what strangers uploaded and so have no credentials; the worker has, and puts what the dataset's manifest
lists, verified, where it belongs (`worker.dataset_source`). One question per connection, a line of JSON each way.
"""

import json
import socket
from pathlib import PurePosixPath
from typing import Final

from npuq.errors import ArtifactError, ChildLostError, ErrorInfo, NpuqError

#: As long as the store may take at worst; the pool of feeders takes one that is silent for longer to be stuck.
WAIT_SECONDS: Final = 100.0
MAX_LINE_BYTES: Final = 65_536


def request_file(address: str, path: str) -> None:
    """Wait until a file of the dataset is in its place.

    Args:
        address: of the worker's socket, in the abstract namespace.
        path: relative to the dataset's folder, as in its manifest.

    Raises:
        NpuqError: why the worker cannot bring it, with the blame that it found.
        ArtifactError: the store takes too long.
        ChildLostError: the worker does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(WAIT_SECONDS)
            channel.connect(f"\0{address}")
            channel.sendall(json.dumps({"path": path}).encode() + b"\n")
            with channel.makefile("rb") as lines:
                answer = json.loads(lines.readline(MAX_LINE_BYTES))
        error = None if answer["error"] is None else ErrorInfo.from_dict(answer["error"])
    except TimeoutError as slow:
        raise ArtifactError(
            f"The store has not delivered {PurePosixPath(path).name} within {WAIT_SECONDS:g} s; is it up, and the line "
            "to it fast enough?"
        ) from slow
    except (OSError, ValueError, KeyError, TypeError) as gone:
        raise ChildLostError(f"The worker that brings files of datasets does not answer: {gone}.") from gone
    if error is not None:
        raise NpuqError.from_info(error)
