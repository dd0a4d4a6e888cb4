"""moto's S3 server as a child process, with one user whose keys it checks.

Run as a module it is that server. moto looks for an existing object and then puts, in two steps, so that two
conditional creates may both succeed; S3 promises that they do not. Hence the lock around writes.
"""

import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from linkspan.processes import Child, free_port, listens

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"


class Moto(NamedTuple):
    """Where the server is, and the keys of the one user that may use it."""

    endpoint: str
    access_key_id: str
    secret_access_key: str

    def client(self) -> "S3Client":
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
        )

    def create_bucket(self, name: str, *, versioned: bool = False) -> None:
        client = self.client()
        client.create_bucket(Bucket=name)
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


@pytest.fixture(scope="session")
def moto_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    folder = tmp_path_factory.mktemp("moto")
    port = free_port()
    command = [sys.executable, "-m", __name__, str(port)]
    server = Child("moto", command, log=folder / "moto.log", cwd=Path(__file__).parents[2])
    try:
        server.wait_until(lambda: listens(port), seconds=600)
        yield _with_user(f"http://127.0.0.1:{port}")
    finally:
        server.stop()


def _with_user(endpoint: str) -> Moto:
    """Make a user while moto lets anyone, then have it check keys."""
    import boto3
    import httpx

    iam = boto3.client(
        "iam",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="nobody",
        aws_secret_access_key="nobody",
    )
    iam.create_user(UserName="linkspan")
    everything = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
    iam.put_user_policy(UserName="linkspan", PolicyName="everything", PolicyDocument=everything)
    key = iam.create_access_key(UserName="linkspan")["AccessKey"]
    httpx.post(
        f"{endpoint}/moto-api/reset-auth", content="0", timeout=600, trust_env=False
    ).raise_for_status()
    return Moto(endpoint, key["AccessKeyId"], key["SecretAccessKey"])


class OneWriterAtATime:
    """WSGI middleware: conditional writes one after the other."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in {"PUT", "POST"}:
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        with self._lock:
            return list(self._app(environ, start_response))


def _serve(port: int) -> None:
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import run_simple

    app = OneWriterAtATime(DomainDispatcherApplication(create_backend_app))
    run_simple("127.0.0.1", port, app, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
