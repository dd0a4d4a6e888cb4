"""One app in a world of its own, without Prefect: what the flows call is called here, with the same parts."""

import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import httpx

from blocks import DockerRuntime, FileModelStore, GitRepository, ImageBuilder, KubernetesRuntime
from linkspan.code import image as code_images
from linkspan.code.image import CodeBuild
from linkspan.code.source import GitSource
from linkspan.ledger.labels import mounted_by
from linkspan.ledger.modelpack import read_modelpack
from linkspan.ledger.series import last
from linkspan.ledger.tags import model_tag
from linkspan.ledger.values import PackagedModel
from linkspan.models import ModelStore, open_models, publish
from linkspan.models import package as layers
from linkspan.nouns import Model, Revision
from linkspan.registry.client import Registry
from linkspan.release.newest import newest_code, newest_model, usable_config
from linkspan.release.smoke import smoke_test
from linkspan.release.steps import again, confirm, plan, push_candidate, repair, roll_out
from linkspan.runtimes.base import Runtime, Service
from linkspan.runtimes.docker.models import remove_models
from linkspan.tls import trusted
from tests.e2e import tiny_app
from tests.e2e.front import FaultyProxy
from tests.onnx_models import linear_model
from tests.repos import Repository
from tests.services.engine import images_of
from tests.services.registry import RunningRegistry

MODEL = "digits"
ENVIRONMENT = "production"


@dataclass
class PlainWorld:
    """Everything one app needs but Prefect: what the flows call is called here."""

    app: str
    folder: Path
    running: RunningRegistry
    front: FaultyProxy
    docker: docker.DockerClient
    base: str
    place: DockerRuntime | KubernetesRuntime = field(default_factory=DockerRuntime)
    environment: str = ENVIRONMENT
    made: int = 0
    also: Mapping[str, str] = field(default_factory=dict)
    repository: Repository = field(init=False)
    models: Path = field(init=False)

    def __post_init__(self) -> None:
        self.repository = Repository(self.folder / "git")
        self.models = self.folder / "models"
        self.models.mkdir()

    # What people do

    def commit(self, word: str = "one", behaviour: str = "good", **files: str) -> str:
        """Commit and push the app, with some of its files replaced (`linkspan_toml` for linkspan.toml)."""
        named = {name.replace("_", "."): text for name, text in files.items()}
        content = {**tiny_app.files(self.app, self.base, word, behaviour), **self.also, **named}
        return self.repository.commit(content, subject=f"Say {word}")

    def model_folder(self, *, seed: int = 0, labels: str = tiny_app.LABELS, side: int = 300) -> Path:
        """A model's files: about `4 * side²` bytes, others for each seed."""
        self.made += 1
        folder = self.folder / f"trained-{self.made}"
        linear_model(side, side, folder / "model.onnx", seed=seed)
        (folder / "labels.txt").write_text(labels)
        return folder

    def publish(self, folder: Path | None = None, version: str | None = None, **options: Any) -> Model:
        return publish(
            FileModelStore(path=str(self.models)).objects(),
            MODEL,
            folder or self.model_folder(**options),
            version=version,
            metrics={"accuracy": 0.97},
            published_by="Grace",
        )

    def roll_back(self, to: str = "") -> Revision:
        """What `linkspan rollback` does."""
        from linkspan.cli.rollback import choose

        live = self.live()
        target = choose(self.runtime().history(self.service), live, to)
        with self.registry() as registry:
            wanted = again(registry, target, self.environment)
        change = {"cause": "rollback by Ada", "pinned": True, "expect": live.number if live else 0}
        return self.runtime().roll_out(wanted.model_copy(update=change), say=lambda _: None)

    # What is there

    @property
    def service(self) -> Service:
        return Service(app=self.app, environment=self.environment)

    def runtime(self) -> Runtime:
        auth = {"username": self.running.username, "password": self.running.password}
        return self.place.open(auth)

    def live(self) -> Revision | None:
        return self.runtime().live(self.service)

    def revision(self) -> Revision:
        live = self.live()
        assert live is not None, "nothing is live"
        return live

    def ask(self, path: str = "/version") -> Any:
        url = self.runtime().url(self.service) + path
        return httpx.get(url, timeout=600, verify=trusted()).raise_for_status().json()

    def answers(self, *names: str) -> list[str]:
        """What the app says about itself; nothing while it does not answer."""
        try:
            said = self.ask()
        except httpx.HTTPError:
            return []
        return [said[name] for name in names]

    def registry(self) -> Registry:
        return self.running.settings(host=self.front.host).open(self.app)

    def tags(self, prefix: str = "") -> set[str]:
        with self.registry() as registry:
            return {tag for tag in registry.tags() if tag.startswith(prefix)}

    def layers(self) -> dict[str, int]:
        """Digests and sizes of the live release's model layers, which it, or what it mounts, has."""
        model = self.revision().release.model
        with self.registry() as registry:
            _, digest = last(registry, model_tag(model.name, model.version))
            assert digest is not None
            _, found = read_modelpack(registry.image(digest))
            image = registry.image(self.revision().release.image)
            listed = registry.manifest(mounted_by(image) or image.digest).document["layers"]
        sizes = {layer.digest: layer.size for layer in found}
        assert sizes.items() <= {each["digest"]: each["size"] for each in listed}.items()
        return sizes

    def sent(self) -> int:
        """Bytes pushed to the app's repository since `front.reset()`."""
        return self.front.sent_to(self.app)

    # What the flows do

    def build_code(self, *, on_purpose: bool = False) -> CodeBuild:
        """Of the newest commit: build, test, push; or it says in `held` why not."""
        source = self.source()
        commit = source.newest()
        assert commit is not None
        with self.registry() as registry, closing(ImageBuilder(memory="512m").open()) as builder:
            built = code_images.build(
                source, registry, builder, commit, refresh=False, on_purpose=on_purpose, say=_quiet
            )
            if built.held or built.digest:
                return built
            code_images.run_tests(builder, registry, built, say=_quiet)
            return code_images.push(builder, registry, built, auth=self.auth, say=_quiet)

    def package_model(self, *, on_purpose: bool = False) -> PackagedModel | str:
        """Of the newest version: validate and package; or why it is held back."""
        config = usable_config(self.source(), _quiet)
        assert config is not None
        store, folder = self.store(), config.model.path
        pinned = store.newest()
        assert pinned is not None
        with self.registry() as registry:
            if found := layers.packaged_already(registry, pinned, folder):
                return found
            if held := layers.held(registry, pinned, on_purpose=on_purpose):
                return held
            return layers.package(store, registry, pinned, folder, say=_quiet, progress=lambda _: None)

    def release_pair(self, *, on_purpose: bool = False) -> tuple[str, str]:
        """Of the newest code and model: what was decided, done, and the reason."""
        runtime = self.runtime()
        with self.registry() as registry:
            code = newest_code(self.source(), registry)
            assert code is not None
            packaged = newest_model(self.store(), registry, code.config.model.path)
            assert packaged is not None
            planned = plan(registry, runtime, code, packaged, self.environment, on_purpose=on_purpose)
            action = planned.decision.action
            if action == "repair":
                assert planned.live is not None
                repair(registry, runtime, planned.live, self.environment, say=_quiet)
            if action == "release":
                push_candidate(registry, code, packaged)
                smoke_test(
                    registry,
                    runtime,
                    planned.candidate,
                    self.environment,
                    say=_quiet,
                    refused=lambda _: None,
                )
                confirm(registry, planned.candidate.release)
                roll_out(registry, runtime, planned, self.environment, cause="build-and-deploy", say=_quiet)
            return action, planned.decision.reason

    def release_first(self) -> Revision:
        """A first commit and a first model, live."""
        self.commit()
        self.publish()
        self.build_code()
        self.package_model()
        self.release_pair()
        return self.revision()

    @property
    def auth(self) -> Mapping[str, str] | None:
        """The engine's login at the registry."""
        return self.running.settings(host=self.front.host).docker_auth()

    def source(self) -> GitSource:
        return GitRepository(url=str(self.repository.bare)).open()

    def store(self) -> ModelStore:
        return open_models(FileModelStore(path=str(self.models)), MODEL)

    def images(self) -> set[str]:
        """Those of the app that the engine has."""
        return images_of(self.docker, self.app)

    def destroy(self) -> None:
        self.runtime().destroy(self.service)
        remove_models(self.docker, self.app, keep=(), say=_quiet)  # of smoke tests for a cluster
        for image in self.images():
            self.docker.images.remove(image, force=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _quiet(_: object) -> None:
    """For words that no test looks at."""
