"""A process that does what Linkspan's flows do, one case for each line that it reads.

It runs and has imported all, as the one that `linkspan up` forks its runs from (flows/warm.py). Each step is
the function that the flow's step calls; left out is what no contender does: to run the app's tests, to
smoke-test the candidate and to roll it out.
"""

import json
import sys
from pathlib import Path

from linkspan.code import image
from linkspan.code.builder import BuilderSettings
from linkspan.code.source import GitSettings
from linkspan.models import open_models
from linkspan.models.package import package, packaged_already
from linkspan.registry.settings import RegistrySettings
from linkspan.release import steps
from linkspan.release.newest import newest_code, newest_model, usable_config
from linkspan.release.pair import linked
from linkspan.stores.file import FileStoreSettings
from tests.bench.contenders.samples import Case


class Flows:
    """The three flows of one app."""

    def __init__(self, told: dict[str, str]) -> None:
        self._source = GitSettings(url=told["repository"]).open(Path(told["cache"]))
        self._login = {"username": told["username"], "password": told["password"]}
        host = RegistrySettings(host=told["host"], **self._login)
        self._registry = host.open(told["app"])
        self._builder = BuilderSettings(base_url=told["engine"], build_args=[f"BASE={told['base']}"]).open()
        self._models = open_models(FileStoreSettings(path=told["store"]), told["model"])

    def run(self, case: Case) -> str:
        """What the hints of a case start; the reference of the release."""
        if case is not Case.MODEL:
            self._app_stream()
        if case is not Case.CODE:
            self._model_stream()
        return self._build_and_deploy()

    def _app_stream(self) -> None:
        commit = self._source.newest()
        assert commit
        if image.tested_image(self._registry, commit):
            return
        built = image.build(
            self._source, self._registry, self._builder, commit, refresh=False, on_purpose=False, say=_nobody
        )
        if built.digest is None:
            image.push(self._builder, self._registry, built, auth=self._login, say=_nobody)

    def _model_stream(self) -> None:
        config = usable_config(self._source, _nobody)
        pinned = self._models.newest()
        assert config
        assert pinned
        folder = config.model.path
        if packaged_already(self._registry, pinned, folder) is None:
            package(self._models, self._registry, pinned, folder, say=_nobody, progress=lambda _: None)

    def _build_and_deploy(self) -> str:
        code = newest_code(self._source, self._registry)
        assert code
        packaged = newest_model(self._models, self._registry, code.config.model.path)
        assert packaged
        candidate = linked(self._registry, code, packaged).candidate  # compared with what is live
        steps.push_candidate(self._registry, code, packaged)
        steps.confirm(self._registry, candidate.release)
        return candidate.reference


def _nobody(_: str) -> None: ...


def main() -> None:
    flows = Flows(json.loads(sys.stdin.readline()))
    _answer("ready")
    for line in sys.stdin:
        _answer(flows.run(Case(line.strip())))


def _answer(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
