"""An S3 server from a wheel, in a process of its own, with a bucket and a key that may do what docs/deploy.md says."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from tests.services.missing import missing
from tests.services.waiting import wait_until

BUCKET: Final = "npuq"
REGION: Final = "us-east-1"
STOPPED_WITHIN_SECONDS: Final = 10.0
#: What the key of a fleet may do; an administrator made the bucket.
ACTIONS: Final = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListBucket")


class S3Server:
    """One server; after the start it checks every signature and every right."""

    def __init__(self) -> None:
        if find_spec("moto") is None:
            missing("moto is not installed; run: make install")
        self._folder = Path(tempfile.mkdtemp(prefix="npuq-s3-"))
        self._log = self._folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(self._listens, "the S3 server listens")
            self.port = int(self._said_port() or 0)
            self.key_id, self.secret = self._prepare()
            self._ask("reset-auth", "0")  # from now on nothing is allowed without a key
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Return where it listens, in plain HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which npuq, or any other program of S3, may use the bucket."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str = "s3") -> Any:
        """Return a client of the service, with the fleet's key; the caller closes it."""
        from botocore.session import Session

        return Session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=getattr(self, "key_id", "administrator"),
            aws_secret_access_key=getattr(self, "secret", "before anything is checked"),
        )

    def names(self) -> list[str]:
        """Return the names of everything in the bucket."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        found = [each["Key"] for page in pages for each in page.get("Contents", ())]
        client.close()
        return found

    def _said_port(self) -> str | None:
        found = re.search(r"Running on http://127\.0\.0\.1:(\d+)", self._log.read_text())
        return found and found[1]

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(self._log.read_text())
        return self._said_port() is not None

    def _prepare(self) -> tuple[str, str]:
        """Make the bucket, a user and its policy; returns the user's key."""
        people, buckets = self.client("iam"), self.client()
        buckets.create_bucket(Bucket=BUCKET)
        resources = [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]
        policy = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": list(ACTIONS), "Resource": resources}],
        }
        people.create_user(UserName="fleet")
        people.put_user_policy(UserName="fleet", PolicyName="store", PolicyDocument=json.dumps(policy))
        made = people.create_access_key(UserName="fleet")["AccessKey"]
        people.close()
        buckets.close()
        return made["AccessKeyId"], made["SecretAccessKey"]

    def _ask(self, what: str, body: str) -> None:
        plain = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.url}/moto-api/{what}", body.encode(), plain)  # noqa: S310 - our server
        urllib.request.urlopen(request, timeout=STOPPED_WITHIN_SECONDS).close()  # noqa: S310 - as above

    def close(self) -> None:
        """End the server and everything that it kept."""
        self._process.kill()
        self._process.wait(STOPPED_WITHIN_SECONDS)
        shutil.rmtree(self._folder)
