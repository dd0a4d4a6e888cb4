"""The real Docker Engine, and small images that behave in every way a release may.

No engine is a failure, not a skip: what is skipped proves nothing.
"""

import io
import json
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from linkspan.engine import engine
from linkspan.errors import LinkspanError

ROOT = Path(__file__).parents[2]
BASE = "linkspan-base:py311"

# How a service of the standard library ends, as gunicorn does: it answers what comes, asks clients to close
# their connections, and ends once the last one has.
LEAVE = """
OPEN = set()
LEAVING = threading.Event()

class Leaving(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: 40 ms otherwise
    def setup(self):
        OPEN.add(self)
        super().setup()
    def finish(self):
        super().finish()
        OPEN.discard(self)
    def end_headers(self):
        if LEAVING.is_set():
            self.send_header("Connection", "close")
        super().end_headers()
    def log_message(self, *_):
        pass

def leave(*_):
    LEAVING.set()
    def end():
        deadline = time.monotonic() + 30
        while OPEN and time.monotonic() < deadline:
            time.sleep(0.02)
        os._exit(0)
    threading.Thread(target=end).start()

signal.signal(signal.SIGTERM, leave)
"""

# A service in one file of the standard library. Its behaviour comes from the environment of its image.
APP = f"""
import base64, hashlib, http.server, json, os, signal, sys, threading, time
BEHAVIOUR, VERSION = os.environ["BEHAVIOUR"], os.environ["VERSION"]
START = time.monotonic()
{LEAVE}
if BEHAVIOUR == "exits":
    print("ImportError: no module named sklearn", flush=True)
    sys.exit(3)
if BEHAVIOUR == "hungry":
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1 << 20)))

class Handler(Leaving):
    def answer(self, status, value):
        body = json.dumps(value).encode() if not isinstance(value, bytes) else value
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def echo(self):
        # A WebSocket that sends short messages back until its client closes it.
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.close_connection = True
        while len(head := self.rfile.read(2)) == 2:
            mask, data = self.rfile.read(4), self.rfile.read(head[1] & 127)
            data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
            self.wfile.write(bytes([head[0], len(data)]) + data)
            if head[0] & 15 == 8:
                return
    def do_GET(self):
        if self.path == "/echo" and "Sec-WebSocket-Key" in self.headers:
            return self.echo()
        if BEHAVIOUR == "slow-start" and time.monotonic() - START < 2:
            return self.answer(503, b"loading")
        if self.path == "/readyz":
            if BEHAVIOUR == "never":
                return self.answer(503, b"the model cannot be opened: bad magic\\nsecond line")
            if BEHAVIOUR == "crashes":
                threading.Timer(float(os.environ.get("CRASHES_AFTER", 0.15)), lambda: os._exit(9)).start()
            return self.answer(200, b"ready")
        if self.path.startswith("/slow/"):
            time.sleep(float(self.path.rsplit("/", 1)[1]))
        if self.path.startswith("/endless/"):
            # A piece after the other, so many bytes long.
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(b"x" * int(self.path.rsplit("/", 1)[1]))
                time.sleep(0.05)
        if self.path.startswith("/file/"):
            try:
                with open(self.path[5:], "rb") as file:
                    return self.answer(200, file.read())
            except OSError as error:
                return self.answer(200, error.strerror.encode())
        if self.path.startswith("/write/"):
            try:
                open(self.path[6:], "w").close()
            except OSError as error:
                return self.answer(200, error.strerror.encode())
        if self.path == "/headers":
            return self.answer(200, dict(self.headers.items()))
        return self.answer(200, {{"version": VERSION}})
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        return self.answer(200, {{"version": VERSION, "size": len(body)}})

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
if BEHAVIOUR == "deaf":
    time.sleep(3600)
Server(("", 8080), Handler).serve_forever()
"""

ImageOf = Callable[..., str]
"""image(version, behaviour="good") -> image ID"""


@pytest.fixture(scope="session")
def docker_client() -> Iterator[docker.DockerClient]:
    """The engine of this machine."""
    try:
        client = engine()
    except LinkspanError as error:
        pytest.fail(f"these tests need a Docker Engine: {error}", pytrace=False)
    yield client
    client.close()


@pytest.fixture(scope="session")
def base_image(docker_client: docker.DockerClient) -> str:
    """The local base image of code images, made if it is not there."""
    try:
        docker_client.images.get(BASE)
    except ImageNotFound:
        made = subprocess.run(
            [str(ROOT / "scripts" / "base-image.sh"), BASE], capture_output=True, text=True, check=False
        )
        if made.returncode:
            pytest.fail(f"no base image for tests: {made.stderr}", pytrace=False)
    return BASE


def images_of(client: docker.DockerClient, app: str) -> set[str]:
    """The images of an app that the engine has, by ID."""
    return {str(image.id) for image in client.images.list(filters={"label": f"dev.linkspan.app={app}"})}


def build_image(client: docker.DockerClient, files: dict[str, str], *, tag: str) -> str:
    """Build a small image from files, with a Dockerfile among them; returns its ID."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    context.seek(0)
    image, _ = client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True)
    return str(image.id)


@pytest.fixture(scope="session")
def image_of(docker_client: docker.DockerClient, base_image: str) -> Iterator[ImageOf]:
    """Make the test service's image in a version and with a behaviour; removed at the end.

    Behaviours: good, exits, never (ready), slow-start, crashes (after it was ready), hungry (for memory),
    deaf (listens nowhere).
    """
    made: dict[tuple[str, str], str] = {}
    repository = f"linkspan-test-{uuid.uuid4().hex[:8]}"

    def image(version: str, behaviour: str = "good") -> str:
        key = (version, behaviour)
        if key not in made:
            dockerfile = "\n".join(
                [
                    f"FROM {base_image}",
                    "COPY app.py /app.py",
                    "USER 1000",
                    f"ENV VERSION={json.dumps(version)} BEHAVIOUR={behaviour}",
                    'CMD ["python3", "/app.py"]',
                ]
            )
            tag = f"{repository}:{version}-{behaviour}"
            made[key] = build_image(docker_client, {"Dockerfile": dockerfile, "app.py": APP}, tag=tag)
        return made[key]

    yield image
    for version, behaviour in made:
        docker_client.images.remove(f"{repository}:{version}-{behaviour}", force=True)
