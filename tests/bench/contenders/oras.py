"""oras push: the model as an artifact."""

from tests.bench.contenders import programs
from tests.bench.contenders.contender import Contender
from tests.bench.contenders.ground import Ground
from tests.bench.contenders.samples import Case
from tests.gomodule import BuildError, Unavailable


class Oras(Contender):
    name = "oras push"
    note = "An artifact, and no image: no node can start it, and a commit is nothing to it."

    @classmethod
    def unavailable(cls, ground: Ground) -> str:
        try:
            programs.ORAS.built()
        except (Unavailable, BuildError) as error:
            return str(error)
        return ""

    def takes(self, case: Case) -> bool:
        return case is not Case.CODE

    def prepare(self, case: Case, code: int, model: int) -> None:
        self._model = self.content.model(model)

    def ship(self, case: Case, tag: str) -> None:
        program = str(programs.ORAS.built() / "oras")
        artifact = f"{self.ground.pushes.host}/{self.folder.name}:{tag}"
        command = [program, "push", "--plain-http", "--no-tty", artifact, self._model.name]
        self.ground.run(command, cwd=self._model.parent)
