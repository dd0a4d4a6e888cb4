"""crane append: the model as one more layer on a code image that docker has built and pushed."""

from tests.bench.contenders import docker_build, programs
from tests.bench.contenders.contender import Contender
from tests.bench.contenders.content import MODEL_PATH, START
from tests.bench.contenders.ground import Ground
from tests.bench.contenders.samples import Case
from tests.gomodule import BuildError, Unavailable


class Crane(Contender):
    name = "crane append"
    note = "docker build + push of the code, the model's tar on top of it. That tar is kept for commits."
    dockerfile = "FROM {base}\nCOPY libraries /opt/libraries\nCOPY app.py /srv/app.py\n" + START

    @classmethod
    def unavailable(cls, ground: Ground) -> str:
        try:
            programs.CRANE.built()
        except (Unavailable, BuildError) as error:
            return str(error)
        return docker_build.Docker.unavailable(ground)

    def prepare(self, case: Case, code: int, model: int) -> None:
        docker_build.lay_out(self, self.folder, None, self.dockerfile.format(base=self.ground.base))
        self._model = self.content.model(model)

    def ship(self, case: Case, tag: str) -> str:
        name = f"{self.ground.pushes.host}/{self.folder.name}"
        layer = self.folder.with_suffix(".tar")
        if case in {Case.FIRST, Case.CODE}:
            self._code = f"{name}:code-{tag}"
            docker_build.build(self, self._code)
            self.ground.run([docker_build.with_buildkit(), "push", "-q", self._code])
        if case in {Case.FIRST, Case.MODEL}:
            inside = f"s,^,{MODEL_PATH.lstrip('/')}/,"
            archive = ["tar", "-cf", str(layer), f"--transform={inside}"]
            self.ground.run([*archive, "-C", str(self._model.parent), self._model.name])
        release = f"{name}:{tag}"
        program = str(programs.CRANE.built() / "crane")
        self.ground.run([program, "append", "--insecure", "-b", self._code, "-f", str(layer), "-t", release])
        return release
