"""The limit: nothing brings bytes into a registry quicker than they can be copied and hashed."""

import os

from tests.bench.contenders.contender import Contender
from tests.bench.contenders.samples import Case


class Raw(Contender):
    name = "raw copy + SHA-256"
    note = "`cp` of the model's file beside the registry's storage, then `sha256sum`: nothing can start it."
    durable = False

    def takes(self, case: Case) -> bool:
        return case in {Case.FIRST, Case.MODEL}

    def prepare(self, case: Case, code: int, model: int) -> None:
        self._source = self.content.model(model)

    def ship(self, case: Case, tag: str) -> None:
        copy = self.folder / tag
        self.ground.run(["cp", str(self._source), str(copy)])
        if self.durable:
            descriptor = os.open(copy, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        self.ground.run(["sha256sum", str(copy)])


class DurableRaw(Raw):
    name = "raw copy + fsync + SHA-256"
    note = "The same, on the disk before it counts: a registry does that with each blob."
    durable = True
