"""From a commit to a tested image, with a real repository, engine and registry: nothing is done twice."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import docker
import pytest
import yaml

from linkspan.code import image as code_image
from linkspan.code.builder import Builder, BuilderSettings
from linkspan.code.image import CodeBuild, build, run_tests
from linkspan.code.source import GitSettings, GitSource
from linkspan.errors import AppTestsFailed, BuildFailed, ConfigError
from linkspan.ledger.labels import read_code_image
from linkspan.ledger.series import nth
from linkspan.ledger.tags import code_tag, commit_tag
from linkspan.nouns import Commit
from linkspan.registry.client import Registry
from linkspan.runtimes.kubernetes.app_objects import default_objects
from tests.e2e import tiny_app
from tests.repos import Repository
from tests.services.engine import build_image
from tests.services.registry import PASSWORD, USER
from tests.skew import skewed


class Work:
    """An app, and app-stream's steps on it."""

    def __init__(self, app: str, base: str, repository: Repository, source: GitSource) -> None:
        self.app, self.base, self.repository, self.source = app, base, repository, source
        self.builder: Builder = BuilderSettings(memory="512m").open()
        self.registry: Registry
        self.said: list[str] = []

    def commit(self, word: str, **files: str) -> Commit:
        content = tiny_app.files(self.app, self.base, word)
        # In a folder of the repository, so that there is something beside the app.
        named = {f"app/{name}": text for name, text in {**content, **files}.items()}
        return self.source.commit(self.repository.commit(named))

    def build(self, commit: Commit, *, on_purpose: bool = False) -> CodeBuild:
        self.said.clear()
        return build(
            self.source,
            self.registry,
            self.builder,
            commit,
            refresh=False,
            on_purpose=on_purpose,
            say=self.said.append,
        )

    def test(self, built: CodeBuild) -> None:
        run_tests(self.builder, self.registry, built, say=self.said.append)

    def push(self, built: CodeBuild) -> str:
        """As the flow does it once the tests have passed."""
        auth = {"username": USER, "password": PASSWORD}
        pushed = code_image.push(self.builder, self.registry, built, auth=auth, say=self.said.append)
        assert pushed.digest
        return pushed.digest


@pytest.fixture
def work(
    tmp_path: Path,
    unique_app: str,
    app_registry: Registry,
    docker_client: docker.DockerClient,
    base_image: str,
) -> Iterator[Work]:
    repository = Repository(tmp_path / "git")
    source = GitSettings(url=str(repository.bare), folder="app").open(tmp_path / "cache")
    made = Work(unique_app, base_image, repository, source)
    made.registry = app_registry
    yield made
    made.builder.close()
    for image in docker_client.images.list(filters={"label": f"dev.linkspan.app={unique_app}"}):
        docker_client.images.remove(str(image.id), force=True)


def test_a_tree_is_built_once(work: Work) -> None:
    commit = work.commit("one")
    assert code_image.tested_image(work.registry, commit) is None
    built = work.build(commit)
    assert (built.digest, built.held) == (None, "")
    assert built.image
    work.test(built)
    assert "ok" in work.said
    assert work.registry.tags() == []  # nothing is pushed before its tests have passed
    digest = work.push(built)
    assert code_image.tested_image(work.registry, commit) == digest
    image = work.registry.image(digest)
    read = read_code_image(image)
    assert (read.commit, read.config) == (commit, built.config)

    beside = work.source.commit(work.repository.commit({"README": "beside the app"}))
    assert beside.tree == commit.tree
    again = work.build(beside)
    assert (again.digest, again.image) == (digest, "")
    assert work.said == [f"The same tree was built and tested before: {digest}"]
    assert code_image.tested_image(work.registry, beside) == digest

    changed = work.build(work.commit("two"))
    assert changed.digest is None
    assert changed.key != built.key


def test_of_two_that_build_the_same_tree_the_second_takes_the_firsts(work: Work) -> None:
    commit = work.commit("one")
    first, second = work.build(commit), work.build(commit)
    digest = work.push(first)
    # Built elsewhere it is another image.
    other = work.builder._client.images.get(work.build(work.commit("two")).image)
    second = second.model_copy(update={"image": str(other.id)})
    assert work.push(second) == digest
    assert any("by somebody else meanwhile" in line for line in work.said)
    tags = [tag for tag in work.registry.tags() if not tag.startswith("mountpoint-")]
    assert sorted(tags) == [code_tag(first.key), commit_tag(commit.sha)]


def test_an_image_with_something_in_the_models_way_is_never_the_newest_code(work: Work) -> None:
    """It is refused when it is pushed: else the newest pair could not be linked, and no model would ship."""
    stands = f"FROM {work.base}\nCOPY . /app/\nCOPY service.py /model/old.onnx\n"
    commit = work.commit("one", Dockerfile=stands)
    with pytest.raises(BuildFailed, match=r"has no room for the model at /model .*/model/old\.onnx is there"):
        work.push(work.build(commit))
    assert code_image.tested_image(work.registry, commit) is None
    # The image is there; a run that finds it says why it is not taken, and tries nothing again.
    held = work.build(commit)
    assert (held.digest, held.image) == (None, "")
    assert "/model/old.onnx is there already" in held.held
    assert code_image.tested_image(work.registry, commit) is None
    with pytest.raises(BuildFailed, match="has no room for the model"):
        work.build(commit, on_purpose=True)


def test_a_commit_on_a_newer_base_gets_a_tag_of_its_own(
    work: Work, docker_client: docker.DockerClient
) -> None:
    usual, name = docker_client.images.get(work.base), f"{work.app}-base"
    usual.tag(name, "1")
    work.base = f"{name}:1"
    commit = work.commit("one")
    first = work.push(work.build(commit))
    build_image(docker_client, {"Dockerfile": f"FROM {usual.id}\nLABEL newer=1\n"}, tag=work.base)
    second = work.push(work.build(commit))
    assert second != first
    usual.tag(name, "1")  # and back again: that tree on that base is there already
    assert work.build(commit).digest == first
    tags = [nth(commit_tag(commit.sha), number) for number in (1, 2, 3)]
    assert [work.registry.exists(tag) for tag in tags] == [first, second, first]
    docker_client.images.remove(work.base, force=True)


def test_a_commit_whose_tests_fail_is_held_back_until_it_is_wanted(work: Work) -> None:
    commit = work.commit("one", **{"test.py": tiny_app.FAILS})
    with pytest.raises(AppTestsFailed, match="AssertionError: 3 is not 7"):
        work.test(work.build(commit))
    held = work.build(commit)
    assert (held.image, held.digest) == ("", None)
    assert held.held.startswith(f"commit {commit.sha[:7]} is held back: ")
    assert "3 is not 7" in held.held
    assert held.held.endswith("`linkspan deploy`")
    assert code_image.tested_image(work.registry, commit) is None
    # Also another commit with the same tree; on purpose it is tried again, and then no longer held.
    assert work.build(work.source.commit(work.repository.commit({"README": "x"}))).held
    assert work.build(commit, on_purpose=True).image
    assert work.build(commit).held == ""


def test_the_apps_kubernetes_objects_are_in_the_image(work: Work) -> None:
    plain = work.commit("one")
    first = work.push(work.build(plain))
    assert read_code_image(work.registry.image(first)).objects == ()
    manifests = default_objects()
    commit = work.commit("one", **{"k8s/all.yaml": yaml.safe_dump_all(manifests)})
    built = work.build(commit)
    assert built.key != work.build(plain).key
    assert read_code_image(work.registry.image(work.push(built))).objects == manifests
    # The same tree is not built again, and has them still.
    again = work.build(work.source.commit(work.repository.commit({"README": "beside the app"})))
    assert again.digest
    assert read_code_image(work.registry.image(again.digest)).objects == manifests

    slip = work.commit("one", **{"k8s/all.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: key}\n"})
    with pytest.raises(ConfigError, match=r"k8s/all\.yaml, line 1: Secret/key"):
        work.build(slip)


def test_a_build_that_fails_is_remembered(work: Work) -> None:
    commit = work.commit("one", Dockerfile=f"FROM {work.base}\nRUN echo no-such-package >&2; exit 3\n")
    with pytest.raises(BuildFailed, match="no-such-package"):
        work.build(commit)
    assert "no-such-package" in work.build(commit).held
    with pytest.raises(BuildFailed):
        work.build(commit, on_purpose=True)


@pytest.mark.parametrize("hours", [1.5, 24, -24])
def test_a_build_that_failed_is_held_back_for_an_hour_whatever_the_clock(work: Work, hours: float) -> None:
    """Also by the clock of another machine, which is a day ahead of this one."""
    commit = work.commit("one", Dockerfile=f"FROM {work.base}\nRUN echo no-such-package >&2; exit 3\n")
    with pytest.raises(BuildFailed), skewed(timedelta(hours=-hours)):
        work.build(commit)
    with pytest.raises(BuildFailed):
        work.build(commit)


def test_a_commit_without_a_config_says_so(work: Work) -> None:
    work.commit("one")
    work.repository.git("rm", "-q", "app/linkspan.toml")
    commit = work.source.commit(work.repository.commit())
    with pytest.raises(ConfigError, match=rf"linkspan\.toml of {commit.sha[:7]} cannot be read: No such"):
        work.build(commit)
    slip = work.commit("one", **{"linkspan.toml": f'name = "{work.app}"\nmodle = 1\n'})
    with pytest.raises(ConfigError, match=rf"linkspan\.toml of {slip.sha[:7]}, line 2: unknown key `modle`"):
        work.build(slip)
