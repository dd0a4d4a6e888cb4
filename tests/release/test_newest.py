"""What is newest, asked from a real repository, a real store and a real registry."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from linkspan.code.source import GitSettings, GitSource
from linkspan.errors import CommitNotFound, ConfigError, ModelNotFound
from linkspan.ledger import series
from linkspan.ledger.labels import code_labels
from linkspan.ledger.tags import commit_tag
from linkspan.ledger.values import PackagedModel
from linkspan.models import ModelStore, open_models, publish
from linkspan.models.package import package
from linkspan.nouns import Digest, Model
from linkspan.registry.client import Registry
from linkspan.release.newest import newest_code, newest_config, newest_model, usable_config
from linkspan.stores.file import FileStoreSettings
from tests.registry.images import CODE_LAYER, CONFIG, a_code_image
from tests.repos import Repository
from tests.services.registry import RunningRegistry
from tests.skew import DAY, skewed

TOML = 'name = "digits"\n[model]\nname = "digits"\n'


@pytest.fixture
def app_registry(registry: RunningRegistry, unique_app: str) -> Iterator[Registry]:
    with registry.settings().open(unique_app) as client:
        yield client


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "git")


@pytest.fixture
def source(repository: Repository, tmp_path: Path) -> GitSource:
    return GitSettings(url=str(repository.bare)).open(tmp_path / "cache")


class Published:
    """A store with versions, of which some are packaged."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        folder.mkdir()
        self.folder = folder
        self.registry = registry
        self.settings = FileStoreSettings(path=str(folder))

    @property
    def store(self) -> ModelStore:
        return open_models(self.settings, "digits")

    def publish(self, version: str, *, packed: bool = True) -> Model:
        file = self.folder.parent / f"{version}.bin"
        file.write_text(f"weights of {version}")
        model = publish(self.settings.objects(), "digits", file, version=version, allow_older=True)
        if packed:
            self.package(version)
        return model

    def package(self, version: str) -> PackagedModel:
        pinned = self.store.get(version)
        quiet = {"say": lambda _: None, "progress": lambda _: None}
        return package(self.store, self.registry, pinned, "/model", **quiet)

    def newest(self, version: str | None = None, *, live: Model | None = None) -> str | None:
        found = newest_model(self.store, self.registry, "/model", version, live=lambda: live)
        return found.model.version if found else None


@pytest.fixture
def published(tmp_path: Path, app_registry: Registry) -> Published:
    return Published(tmp_path / "store", app_registry)


def passed(registry: Registry, source: GitSource, sha: str, *, base: str = "") -> Digest:
    """What app-stream leaves behind when the tests of a commit have passed, on some base; its image."""
    commit = source.commit(sha)
    image = a_code_image(labels={**code_labels("digits", commit, CONFIG), "base": base})
    registry.push_blob(CODE_LAYER)
    digest = registry.push_image(image)
    series.add(registry, commit_tag(commit.sha), digest)
    return digest


def test_the_newest_commit_that_is_tested(
    repository: Repository, source: GitSource, app_registry: Registry
) -> None:
    assert newest_code(source, app_registry) is None
    first = repository.commit({"app.py": "1"})
    assert newest_code(source, app_registry) is None
    second = repository.commit({"app.py": "2"})
    passed(app_registry, source, second)
    passed(app_registry, source, first)  # later, and still the older one
    third = repository.commit({"app.py": "3"})

    found = newest_code(source, app_registry)
    assert found is not None
    assert (found.commit.sha, found.config) == (second, CONFIG)
    named = newest_code(source, app_registry, first[:8])
    assert named is not None
    assert named.commit.sha == first
    with pytest.raises(CommitNotFound, match=rf"{third} has no tested image"):
        newest_code(source, app_registry, third)
    with pytest.raises(CommitNotFound):
        newest_code(source, app_registry, "0123abcd")


def test_a_commit_that_a_forced_push_took_away_is_not_released(
    repository: Repository, source: GitSource, app_registry: Registry
) -> None:
    first = repository.commit({"app.py": "1"})
    passed(app_registry, source, first)
    second = repository.commit({"app.py": "2"})
    passed(app_registry, source, second)
    repository.git("reset", "-q", "--hard", first)
    repository.push()
    found = newest_code(source, app_registry)
    assert found is not None
    assert found.commit.sha == first


def test_a_later_commit_with_the_same_tree_is_the_image_of_the_first(
    repository: Repository, source: GitSource, app_registry: Registry
) -> None:
    first = repository.commit({"app.py": "1"})
    passed(app_registry, source, first)
    second = repository.commit(subject="Nothing changed")
    digest = app_registry.exists(commit_tag(first))
    assert digest
    app_registry.tag(digest, commit_tag(second))
    found = newest_code(source, app_registry)
    assert found is not None
    assert (found.commit.sha, found.digest) == (first, digest)


def test_a_commit_on_a_newer_base_is_a_newer_image_and_no_tag_moves(
    repository: Repository, source: GitSource, app_registry: Registry
) -> None:
    sha = repository.commit({"app.py": "1"})
    for number, base in enumerate(["one", "two", "one"], start=1):  # a base may go back
        digest = passed(app_registry, source, sha, base=base)
        for asked in (None, sha):
            found = newest_code(source, app_registry, asked)
            assert found is not None
            assert found.digest == digest
        assert len(app_registry.tags()) == number


def test_the_newest_model_by_version_and_not_by_time(published: Published) -> None:
    assert published.newest() is None
    for version in ("v10", "v9", "v2"):
        published.publish(version)
    assert published.newest() == "v10"
    published.publish("v11", packed=False)
    assert published.newest() == "v10"
    assert published.newest("v9") == "v9"
    with pytest.raises(ModelNotFound, match="v11 has no layer below /model"):
        published.newest("v11")
    with pytest.raises(ModelNotFound, match="v10"):
        published.newest("v12")
    published.package("v11")
    assert published.newest() == "v11"


def test_a_version_whose_file_is_lost_keeps_its_layer(published: Published) -> None:
    published.publish("v1")
    published.publish("v2")
    published.publish("v3", packed=False)
    for lost in (published.store.get("v3"), published.store.get("v2")):
        (published.folder / "digits" / "blobs" / "sha256" / lost.files[0].sha256).unlink()
    assert published.newest() == "v2"


@pytest.mark.parametrize("skew", [DAY, -DAY], ids=["ahead", "behind"])
def test_no_clock_says_what_is_newest(
    published: Published,
    repository: Repository,
    source: GitSource,
    app_registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    skew: timedelta,
) -> None:
    """Whoever made the older one has a clock that is wrong by a day, and tags it last."""
    monkeypatch.setenv("GIT_COMMITTER_DATE", (datetime.now(UTC) + skew).isoformat())
    first = repository.commit({"app.py": "1"})
    with skewed(skew):
        published.publish("v1", packed=False)
    monkeypatch.setenv("GIT_COMMITTER_DATE", (datetime.now(UTC) - skew).isoformat())
    second = repository.commit({"app.py": "2"})
    with skewed(-skew):
        published.publish("v2", packed=False)
    for sha, version in ((second, "v2"), (first, "v1")):
        passed(app_registry, source, sha)
        published.package(version)

    code = newest_code(source, app_registry)
    assert code is not None
    assert code.commit.sha == second
    assert published.newest() == "v2"
    dates = [commit.committed_at for commit in source.recent()]
    times = [model.published_at for version in ("v2", "v1") if (model := published.store.get(version).model)]
    assert (dates[0] < dates[1]) == (times[0] < times[1]) == (skew > timedelta())  # type: ignore[operator]


def test_what_is_live_stays_when_the_store_is_empty(published: Published) -> None:
    live = published.publish("v1")
    (published.folder / "digits" / "versions" / "v1.json").unlink()
    assert published.newest() is None
    assert published.newest(live=live) == "v1"
    assert published.newest(live=live.model_copy(update={"name": "faces"})) is None


def test_the_config_of_the_newest_commit(repository: Repository, source: GitSource) -> None:
    said: list[str] = []
    assert newest_config(source) is None
    assert usable_config(source, said.append) is None
    repository.commit({"README": "no app yet"})
    with pytest.raises(ConfigError, match=r"there is no linkspan\.toml of"):
        usable_config(source, said.append)
    good = repository.commit({"linkspan.toml": TOML})
    slip = repository.commit({"linkspan.toml": TOML + "[serve]\nprot = 1\n"})
    with pytest.raises(ConfigError, match=rf"linkspan\.toml of {slip[:7]}, line 5: unknown key `prot`"):
        newest_config(source)
    used = usable_config(source, said.append)
    assert used is not None
    assert used.model.name == "digits"
    assert "prot" in said[-1]
    assert said[-1].endswith(f"Until then that of {good[:7]} is used")
    repository.commit({"linkspan.toml": "\ufeff" + TOML})  # as editors on Windows write it
    assert newest_config(source) is not None
