"""bentoml build and bentoml containerize, then docker push."""

import json
import os
import shutil

from tests.bench.contenders import peers
from tests.bench.contenders.contender import Contender
from tests.bench.contenders.content import Content
from tests.bench.contenders.docker_build import Docker, with_buildkit
from tests.bench.contenders.ground import Failed, Ground
from tests.bench.contenders.samples import Case

_SERVICE = """\
import bentoml

@bentoml.service
class Bench:
    weights = bentoml.models.BentoModel("weights:{version}")

    @bentoml.api
    def version(self) -> str:
        return {source!r}
"""
_MODEL = """\
import bentoml, os, sys
with bentoml.models.create("weights:" + sys.argv[2]) as model:
    os.link(sys.argv[1], model.path_of("weights.bin"))
"""


class Bento(Contender):
    name = "bentoml containerize"
    note = (
        "bentoml 1.4.40: `bentoml build`, `bentoml containerize`, docker push; the model is in its model "
        "store already. Base image by its option; what it installs is in all caches."
    )

    @classmethod
    def unavailable(cls, ground: Ground) -> str:
        if why := Docker.unavailable(ground):
            return why
        return trial(cls, ground)

    def prepare(self, case: Case, code: int, model: int) -> None:
        self._bin = peers.environment("bentoml-1.4.40", "bentoml==1.4.40", peers.UV, "pip")
        self._docker = peers.ready(self.ground)
        self._home = self.folder.with_suffix(".home")  # not in the folder: bentoml copies that
        libraries = self.folder / "libraries"
        if not libraries.exists():
            shutil.copytree(self.content.app / "libraries", libraries, copy_function=os.link)
        options = {
            "service": "service:Bench",
            "include": ["service.py", "libraries/*"],
            "docker": {"base_image": peers.BASE},
        }
        (self.folder / "bentofile.yaml").write_text(json.dumps(options))
        source = (self.content.app / "app.py").read_text()
        (self.folder / "service.py").write_text(_SERVICE.format(version=f"v{model}", source=source))
        if not (self._home / "models" / "weights" / f"v{model}").exists():
            self._run("python", "-c", _MODEL, str(self.content.model(model)), f"v{model}")

    def ship(self, case: Case, tag: str) -> str:
        image = f"{self.ground.pushes.host}/{self.folder.name}:{tag}"
        bento = self._run("bentoml", "build", "-o", "tag").strip().rpartition("__tag__:")[2]
        self._run("bentoml", "containerize", bento, "-t", image)
        self.ground.run([with_buildkit(), "push", "-q", image])
        return image

    def _run(self, program: str, *arguments: str) -> str:
        return self.ground.run(
            [str(self._bin / program), *arguments],
            cwd=self.folder,
            PATH=f"{self._docker}:{self._bin}:{os.environ['PATH']}",
            TMPDIR=str(self.folder.parent),
            BENTOML_HOME=str(self._home),
            BENTOML_DO_NOT_TRACK="True",
        )


def trial(kind: type[Contender], ground: Ground) -> str:
    """Ship once something small: why that fails. What it installs is in all caches then."""
    folder = ground.folder / f"trial-{kind.__name__.lower()}"
    folder.mkdir()
    try:
        contender = kind(ground, Content(folder, "trial", 1), folder / folder.name)
        contender.prepare(Case.FIRST, 1, 1)
        contender.ship(Case.FIRST, "trial")
    except (peers.NoPeer, Failed) as error:
        return str(error)
    finally:
        shutil.rmtree(folder)
    return ""
