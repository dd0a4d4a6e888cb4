"""Which nginx image the proxy runs: the one asked for, Docker Hub's, or one made from Debian packages."""

import shutil
import subprocess
from pathlib import Path

import docker
from docker.errors import ImageNotFound

from linkspan.engine import engine, pull
from linkspan.errors import LinkspanError, RegistryError, RolloutFailed, RuntimeUnavailable
from linkspan.progress import Say

HUB = "nginx:1-alpine"
LOCAL = "linkspan-nginx:1"
# In an installed package, else in a checkout.
_PLACES = [Path(__file__).parents[up] / "scripts" / "nginx-image.sh" for up in (2, 3)]
_SCRIPT = next((place for place in _PLACES if place.is_file()), None)
_PULL_SECONDS = 20.0
_BUILD_SECONDS = 300.0


def nginx_image(client: docker.DockerClient, wanted: str, base_url: str, *, say: Say) -> str:
    """The name of an image that the engine has. Says which one it is if it had to be made.

    Raises RolloutFailed when there is none and none can be made, with both causes.
    """
    if wanted:
        pull(client, wanted)
        return wanted
    for name in (HUB, LOCAL):
        if _has(client, name):
            return name
    try:
        # A client of its own, since a registry that is filtered away answers nothing for minutes.
        pull(engine(base_url, timeout_seconds=_PULL_SECONDS), HUB)
    except (RegistryError, RuntimeUnavailable, OSError) as error:
        return _build(error, say)
    say(f"the proxy runs {HUB} from Docker Hub")
    return HUB


def _has(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


def _build(no_hub: Exception, say: Say) -> str:
    why = no_hub.found or no_hub.what if isinstance(no_hub, LinkspanError) else "it does not answer"
    say(f"{HUB} cannot be pulled ({why}); making {LOCAL} from Debian packages")
    fix = f"Bring an nginx image here (`docker load`) and tag it {HUB}, or name one in the runtime block"
    if _SCRIPT is None or shutil.which("docker") is None:
        raise RolloutFailed(f"there is no nginx image: {HUB} cannot be pulled", found=why, fix=fix)
    try:
        made = subprocess.run(
            [str(_SCRIPT), LOCAL], capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise RolloutFailed(f"{LOCAL} was not made within {_BUILD_SECONDS:g} s", fix=fix) from None
    if made.returncode != 0:
        raise RolloutFailed(
            f"there is no nginx image: {HUB} cannot be pulled ({why}) and {LOCAL} cannot be made",
            found=" | ".join(made.stderr.strip().splitlines()[-3:]),
            fix=fix,
        )
    say(made.stdout.strip().splitlines()[-1])
    return LOCAL
