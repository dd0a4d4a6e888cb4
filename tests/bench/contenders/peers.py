"""Contenders that are Python programs: each in a virtual environment of its own, kept in the user's cache.

Their Dockerfiles are FROM an image of Docker Hub unless told otherwise, and install from PyPI (and Debian)
while they build. Here they get the base image that all have, with a virtual environment and uv in it, and
the host's network. What they install once lies in the builder's caches and in the registry before they begin.
"""

import fcntl
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests import gomodule
from tests.bench.contenders.docker_build import with_buildkit
from tests.bench.contenders.ground import Ground

UV = "uv==0.13.4"
BASE = "bench-python:py311"
_DOCKERFILE = f"""\
FROM {{base}}
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install -q --no-cache-dir {UV}
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""


class NoPeer(Exception):
    """It cannot be had here."""


def environment(name: str, *requirements: str) -> Path:
    """The folder of its programs. Raises NoPeer if the package index does not give it."""
    folder = gomodule.CACHE / "peers" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            new = folder.with_name(f"{name}.new")
            shutil.rmtree(new, ignore_errors=True)
            uv = str(Path(sys.executable).parent / "uv")
            # Relocatable: it is whole when it has its name.
            for command in (
                [uv, "venv", "-q", "--relocatable", "--python", sys.executable, str(new)],
                [uv, "pip", "install", "-q", "--python", str(new / "bin" / "python"), *requirements],
            ):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise NoPeer(f"{requirements[0]} cannot be installed: {done.stderr.strip()[-300:]}")
            new.rename(folder)
    return folder / "bin"


def ready(ground: Ground) -> Path:
    """Builds the base image of peers, once; a folder with the `docker` that they shall find first."""
    folder = ground.folder / "peers"
    if folder.exists():
        return folder
    folder.mkdir()
    (folder / "Dockerfile").write_text(_DOCKERFILE.format(base=ground.base))
    command = [with_buildkit(), "build", "-q", "--network=host", "-t", BASE, "."]
    ground.run(command, cwd=folder, DOCKER_BUILDKIT="1")
    # They have no option for the network of their builds, and must not take a client without BuildKit.
    docker = shlex.quote(with_buildkit())
    script = folder / "docker"
    script.write_text(
        '#!/bin/sh\nif [ "$1" = build ]; then shift; set -- build --network=host "$@"; fi\n'
        f'DOCKER_BUILDKIT=1 exec {docker} "$@"\n'
    )
    script.chmod(0o755)
    return folder
