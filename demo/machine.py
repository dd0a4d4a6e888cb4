"""What the demo needs of the machine: a Docker Engine, a base image and a private registry."""

import secrets
import shutil
import subprocess
from pathlib import Path

import bcrypt
import docker
from docker.errors import APIError, DockerException
from pydantic import SecretStr

from demo.places import APP, LOGS, REGISTRY, ROOT
from demo.show import done, note
from linkspan.errors import ConfigError
from linkspan.local import leftovers
from linkspan.processes import Child, free_port, listens
from linkspan.registry.settings import RegistrySettings
from linkspan.runtimes.docker.trial import LABEL as SMOKE_LABEL

BASE = "linkspan-base:py311"
UPSTREAM = "registry:2"
CONTAINER = "linkspan-demo-registry"
USER = "linkspan"

_CONFIG = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {storage}}}, delete: {{enabled: true}}}}
auth: {{htpasswd: {{realm: linkspan-demo, path: {htpasswd}}}}}
http: {{addr: "{address}", secret: {secret}}}
"""


def run_script(name: str, *arguments: str) -> str:
    """Run one of scripts/, and give its last line. Raises ConfigError with what it said."""
    result = subprocess.run(
        [str(ROOT / "scripts" / name), *arguments], capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise ConfigError(f"scripts/{name} failed:\n{(result.stdout + result.stderr).strip()[-2000:]}")
    return (result.stdout.strip() or result.stderr.strip()).splitlines()[-1]


def engine() -> docker.DockerClient:
    """The Docker Engine, started if there is none and this user may do so."""
    done("Docker Engine", run_script("engine.sh", "start"))
    return docker.from_env()


class DemoRegistry:
    """A private registry with a password, and its storage in the demo's folder, where bytes can be counted.

    `registry:2` where it can be pulled, else Debian's docker-registry: both are CNCF Distribution.
    """

    def __init__(self, client: docker.DockerClient, mark: str) -> None:
        self._client = client
        self._mark = mark
        self._child: Child | None = None
        self._password = secrets.token_urlsafe(16)
        self.port = free_port()
        self.storage = REGISTRY / "storage"

    @property
    def settings(self) -> RegistrySettings:
        return RegistrySettings(
            host=f"127.0.0.1:{self.port}", prefix="demo", username=USER, password=SecretStr(self._password)
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.storage.mkdir(parents=True, exist_ok=True)
        self._write_password()
        kind = self._start_container() or self._start_process()
        done("Registry", f"{self.settings.host}, with a password ({kind})")

    def stop(self) -> None:
        """Stop it; its storage stays."""
        if self._child:
            self._child.stop()
        remove_container(self._client)

    def stored(self) -> int:
        """Bytes of all blobs and manifests in it: what was ever pushed and not there before."""
        blobs = self.storage / "docker" / "registry" / "v2" / "blobs"
        return sum(path.stat().st_size for path in blobs.rglob("data")) if blobs.exists() else 0

    def _write_password(self) -> None:
        hashed = bcrypt.hashpw(self._password.encode(), bcrypt.gensalt(5, prefix=b"2a"))
        path = REGISTRY / "htpasswd"
        path.write_text(f"{USER}:{hashed.decode()}\n")
        path.chmod(0o644)  # a hash, and the registry's container is another user

    def _write_config(self, storage: Path | str, htpasswd: Path | str, address: str) -> Path:
        config = REGISTRY / "config.yml"
        config.write_text(
            _CONFIG.format(storage=storage, htpasswd=htpasswd, address=address, secret=secrets.token_hex(16))
        )
        return config

    def _start_container(self) -> str:
        try:
            if not self._client.images.list(UPSTREAM):
                self._client.images.pull(UPSTREAM)
        except (APIError, DockerException):
            return ""  # Docker Hub is out of reach: Debian has the same program
        config = self._write_config("/var/lib/registry", "/htpasswd", ":5000")
        self._client.containers.run(
            UPSTREAM,
            detach=True,
            name=CONTAINER,
            ports={"5000/tcp": ("127.0.0.1", self.port)},
            volumes={
                str(self.storage): {"bind": "/var/lib/registry", "mode": "rw"},
                str(config): {"bind": "/etc/docker/registry/config.yml", "mode": "ro"},
                str(REGISTRY / "htpasswd"): {"bind": "/htpasswd", "mode": "ro"},
            },
        )
        return f"the image {UPSTREAM}"

    def _start_process(self) -> str:
        if shutil.which("docker-registry") is None:
            note(run_script("packages.sh", "docker-registry"))
        config = self._write_config(self.storage, REGISTRY / "htpasswd", f"127.0.0.1:{self.port}")
        env = {"PATH": "/usr/bin:/bin", leftovers.MARK: self._mark}
        self._child = Child(
            "docker-registry", ["docker-registry", "serve", str(config)], log=LOGS / "registry.log", env=env
        )
        self._child.wait_until(lambda: listens(self.port), seconds=240)
        return "Debian's docker-registry"


def remove_container(client: docker.DockerClient) -> None:
    """Remove the registry's container, if it ran as one."""
    for container in client.containers.list(all=True, filters={"name": f"^/{CONTAINER}$"}):
        container.remove(force=True, v=True)


def remove_trials(client: docker.DockerClient) -> None:
    """Remove the containers of the app's tests and smoke tests that an end in the middle of them left."""
    label = f"dev.linkspan.app={APP}"  # they have it of their image
    for container in client.containers.list(all=True, filters={"label": label}, ignore_removed=True):
        if str(container.name).startswith(("linkspan-smoke-", "linkspan-test-")):
            container.remove(force=True, v=True)


def remove_networks(client: docker.DockerClient) -> None:
    """Remove the network of smoke tests, unless somebody else is testing in it."""
    for network in client.networks.list(filters={"label": SMOKE_LABEL}):
        network.reload()
        if not network.containers:
            network.remove()


def remove_images(client: docker.DockerClient) -> None:
    """Remove the images of the demo's app; the base images and the build cache stay for the next run."""
    for image in client.images.list(filters={"label": f"dev.linkspan.app={APP}"}):
        if image.id and all(tag.startswith(("127.0.0.1:", f"linkspan/{APP}:")) for tag in image.tags):
            client.images.remove(image.id, force=True)
