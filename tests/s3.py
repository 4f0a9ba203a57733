"""S3 as moto speaks it, in a process of its own: `python -m tests.s3` binds a port, tells it, and serves."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shared.ids import new_id

# What boto3 reads; the keys are as good as any others to moto.
VARIABLES = {"AWS_ACCESS_KEY_ID": "medq", "AWS_SECRET_ACCESS_KEY": "medq-test", "AWS_REGION": "us-east-1"}


def main() -> None:
    from moto.server import (
        DomainDispatcherApplication,
        create_backend_app,
    )  # seconds, which this process pays
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    print(server.server_port, flush=True)
    server.serve_forever()


@contextmanager
def serving() -> Iterator[str]:
    """A server's address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.s3"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | VARIABLES,
        start_new_session=True,
        text=True,
    )
    assert process.stdout
    try:
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"moto's S3 did not start; see `{sys.executable} -m tests.s3`")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Bucket:
    """A bucket of its own for each test, and a look into it past MedQ."""

    def __init__(self, client: Any, *, versioned: bool = False) -> None:
        self.name = f"medq-{new_id()}"
        self.client = client
        self.client.create_bucket(Bucket=self.name)
        if versioned:
            self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})

    @property
    def url(self) -> str:
        return f"s3://{self.name}/blobs"

    def listed(self) -> list[str]:
        return [one["Key"] for one in self.client.list_objects_v2(Bucket=self.name).get("Contents", ())]

    def data(self) -> list[bytes]:
        """What the objects hold, in the order of their keys."""
        return [self.client.get_object(Bucket=self.name, Key=key)["Body"].read() for key in self.listed()]

    def versions(self) -> int:
        """Of all objects, those that mark a deleted one too."""
        found = self.client.list_object_versions(Bucket=self.name)
        return len(found.get("Versions", ())) + len(found.get("DeleteMarkers", ()))


if __name__ == "__main__":
    main()
