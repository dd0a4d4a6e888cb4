"""mlflow models build-docker, then docker push."""

import os
import shutil

from tests.bench.contenders import peers
from tests.bench.contenders.bento import trial
from tests.bench.contenders.contender import Contender
from tests.bench.contenders.docker_build import Docker, with_buildkit
from tests.bench.contenders.ground import Ground
from tests.bench.contenders.samples import Case

# What `mlflow models build-docker` calls; the command has no option for the base image, and this has.
_BUILD = """\
import sys
from mlflow.models import build_docker
build_docker(model_uri=sys.argv[1], name=sys.argv[2], env_manager="local", base_image=sys.argv[3])
"""
_SAVE = """\
import sys, mlflow
mlflow.pyfunc.save_model(
    sys.argv[1],
    python_model=sys.argv[2],
    artifacts={"weights": sys.argv[3]},
    code_paths=sys.argv[4:],
    pip_requirements=[],
)
"""
_MODEL = """\
import mlflow

class Bench(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str]) -> list[str]:
        return [{source!r}]

mlflow.models.set_model(Bench())
"""


class Mlflow(Contender):
    name = "mlflow build-docker"
    note = (
        "mlflow 3.17.2, `env_manager=local`, docker push; the model's folder is saved already. Base image by "
        "its option; what it installs is in all caches."
    )

    @classmethod
    def unavailable(cls, ground: Ground) -> str:
        return Docker.unavailable(ground) or trial(cls, ground)

    def prepare(self, case: Case, code: int, model: int) -> None:
        self._bin = peers.environment("mlflow-3.17.2", "mlflow==3.17.2")
        self._docker = peers.ready(self.ground)
        source = (self.content.app / "app.py").read_text()
        (self.folder / "bench_model.py").write_text(_MODEL.format(source=source))
        self._saved = self.folder / f"{code}-{model}"
        if self._saved.exists():
            return
        for older in self.folder.glob("*-*"):
            shutil.rmtree(older)
        weights, libraries = str(self.content.model(model)), str(self.content.app / "libraries")
        self._run(_SAVE, str(self._saved), "bench_model.py", weights, libraries)

    def ship(self, case: Case, tag: str) -> str:
        image = f"{self.ground.pushes.host}/{self.folder.name}:{tag}"
        self._run(_BUILD, str(self._saved), image, peers.BASE)
        self.ground.run([with_buildkit(), "push", "-q", image])
        return image

    def _run(self, program: str, *arguments: str) -> None:
        self.ground.run(
            [str(self._bin / "python"), "-c", program, *arguments],
            cwd=self.folder,
            PATH=f"{self._docker}:{self._bin}:{os.environ['PATH']}",
            TMPDIR=str(self.folder.parent),
            MLFLOW_DISABLE_TELEMETRY="true",
        )
