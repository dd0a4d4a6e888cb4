"""Linkspan, from the commit in git and the version in the store on."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from linkspan.models import publish
from linkspan.stores.file import FileStoreSettings
from tests.bench.contenders import samples
from tests.bench.contenders.contender import Contender
from tests.bench.contenders.content import DOCKERFILE, TOML, Content
from tests.bench.contenders.ground import ROOT, Failed, Ground
from tests.bench.contenders.samples import Case
from tests.repos import Repository


class Linkspan(Contender):
    name = samples.LINKSPAN
    note = (
        "The flows' own steps in a process that runs already, as with `linkspan up`: from git and the store, "
        "classic builder, link, tag."
    )
    our_layout = True

    def __init__(self, ground: Ground, content: Content, folder: Path) -> None:
        super().__init__(ground, content, folder)
        self._repository = Repository(folder)
        self._store = FileStoreSettings(path=str(folder / "store"))
        (folder / "store").mkdir()
        self._published = self._committed = 0
        self._process: subprocess.Popen[str] | None = None

    def prepare(self, case: Case, code: int, model: int) -> None:
        if code != self._committed:
            work = self._repository.work
            shutil.copytree(self.content.app, work, dirs_exist_ok=True)
            self._repository.commit({"Dockerfile": DOCKERFILE, "linkspan.toml": TOML})
            self._committed = code
        if model != self._published:
            publish(self._store.objects(), "weights", self.content.model(model).parent)
            self._published = model
        if self._process is None:
            self._process = self._start()

    def ship(self, case: Case, tag: str) -> str:
        assert self._process
        if self.ground.watch:
            self.ground.watch.add(self._process.pid)
        return self._ask(case)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def _start(self) -> "subprocess.Popen[str]":
        self._log = self.folder / "steps.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.linkspan_steps"],
                cwd=ROOT,
                env={**self.ground.environment, "XDG_CACHE_HOME": str(self.folder / "cache")},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        told = {
            "repository": str(self._repository.bare),
            "cache": str(self.folder / "git"),
            "host": self.ground.pushes.host,
            "app": "bench",
            "engine": self.ground.builder.url,
            "base": self.ground.base,
            "store": self._store.path,
            "model": "weights",
            **self.ground.login,
        }
        self._ask(json.dumps(told))
        return self._process

    def _ask(self, line: str) -> str:
        assert self._process
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline().strip()):
            raise Failed(self._log.read_text()[-1000:])
        return answer
