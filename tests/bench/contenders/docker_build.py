"""docker build and docker push: with layers in the best order, and as the reference pipeline has it."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.bench.contenders.contender import Contender
from tests.bench.contenders.content import MODEL_PATH, START
from tests.bench.contenders.ground import Ground
from tests.bench.contenders.samples import Case

BUILDKIT_INSIDE = 23
"""From this version on the client needs a plugin for BuildKit."""


class Docker(Contender):
    """The model's layer above the libraries and below the source."""

    name = "docker build + push"
    note = "BuildKit, the model's layer right below the source: the best order of layers."
    our_layout = True
    dockerfile = (
        "FROM {base}\nCOPY libraries /opt/libraries\n"
        f"COPY model {MODEL_PATH}\nCOPY app.py /srv/app.py\n{START}"
    )

    @classmethod
    def unavailable(cls, ground: Ground) -> str:
        return "" if with_buildkit() else "no docker client here has BuildKit: install docker-buildx"

    def prepare(self, case: Case, code: int, model: int) -> None:
        lay_out(self, self.folder, model, self.dockerfile.format(base=self.ground.base))

    def ship(self, case: Case, tag: str) -> str:
        image = f"{self.ground.pushes.host}/{self.folder.name}:{tag}"
        build(self, image)
        self.ground.run([with_buildkit(), "push", "-q", image])
        return image


class Reference(Docker):
    """One `ADD .` of everything, and what is installed after it."""

    name = "reference pipeline (`ADD .` first)"
    note = "BuildKit; `ADD .` of app and model, then the libraries are put in place (as by `pip install`)."
    our_layout = False
    dockerfile = "FROM {base}\nADD . /srv\nRUN cp -r /srv/libraries /opt/libraries\n" + START


def lay_out(contender: Contender, folder: Path, model: int | None, dockerfile: str) -> None:
    """A build context: the app's files and the model's. Links, for a copy of the model would cost time."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    app = contender.content.app
    shutil.copytree(app, folder, copy_function=os.link, dirs_exist_ok=True)
    for ours in ("Dockerfile", "linkspan.toml"):
        (folder / ours).unlink(missing_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    if model is not None:
        source = contender.content.model(model)
        (folder / "model").mkdir()
        (folder / "model" / source.name).hardlink_to(source)


def build(contender: Contender, image: str) -> None:
    """docker build of a contender's folder."""
    command = [with_buildkit(), "build", "-q", "--network=host", "-t", image, "."]
    contender.ground.run(command, cwd=contender.folder, DOCKER_BUILDKIT="1")


@cache
def with_buildkit() -> str:
    """The first docker client on PATH that can build with BuildKit."""
    for folder in os.get_exec_path():
        if (program := shutil.which("docker", path=folder)) is None:
            continue
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"(\d+)\.", said)
        plugin = subprocess.run([program, "buildx", "version"], capture_output=True, check=False)
        if version and (int(version[1]) < BUILDKIT_INSIDE or plugin.returncode == 0):
            return program
    return ""
