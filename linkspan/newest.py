"""Asks the sources what is newest now: the newest commit with a tested image, the newest model with a layer.

The registry's tags say what was tested and validated; the git history and the store's listing say in which
order. No clock decides anything.
"""

from collections.abc import Iterator

from linkspan.config import CONFIG_FILE, AppConfig, read_config
from linkspan.converge import CodeImage, PackagedModel, commit_tag, newest_tested
from linkspan.errors import CommitNotFound, ConfigError, ModelError, ModelNotFound
from linkspan.link import read_code_image
from linkspan.model_layer import packaged_already
from linkspan.models import ModelStore, Pinned
from linkspan.nouns import short
from linkspan.registry.client import Registry
from linkspan.source import GitSource


def newest_code(source: GitSource, registry: Registry, commit: str | None = None) -> CodeImage | None:
    """The newest tested code image, or that of `commit`; None if no commit's tests have passed yet.

    Raises CommitNotFound for a named commit that is not there or has no tested image.
    """
    tags = registry.tags()
    if commit is None:
        found = newest_tested(source.recent(), tags)
        if found is None:
            return None
    else:
        found = source.commit(commit)
        if commit_tag(found.sha) not in tags:
            raise CommitNotFound(
                f"commit {found.sha} has no tested image in {registry.name}",
                fix="Run app-stream for it first; if it did run, its tests did not pass",
            )
    digest = registry.manifest(commit_tag(found.sha)).digest
    built_from, config = read_code_image(registry.image(digest))
    return CodeImage(commit=built_from, config=config, digest=digest)


def newest_model(
    store: ModelStore, registry: Registry, folder: str, version: str | None = None
) -> PackagedModel | None:
    """The newest model that is valid and packed below `folder`, or `version`; None if there is none yet.

    Raises ModelNotFound for a named version that is not there or was never validated.
    """
    if version is None:
        packed = (packaged_already(registry, pinned, folder) for pinned in _newest_first(store))
        return next((model for model in packed if model), None)
    packaged = packaged_already(registry, store.get(version), folder)
    if packaged is None:
        raise ModelNotFound(
            f"model {store.name} {version} has no layer below {folder} in {registry.name}",
            fix="Run model-stream for it first; if it did run, the model is not valid",
        )
    return packaged


def newest_config(source: GitSource) -> AppConfig | None:
    """linkspan.toml as it is in the newest commit; None if nothing was committed yet. Raises ConfigError."""
    commit = source.newest()
    if commit is None:
        return None
    text = source.read(commit, CONFIG_FILE)
    where = f"{CONFIG_FILE} of {short(commit.sha)}"
    if text is None:
        raise ConfigError(f"there is no {where}", fix="Copy the one of the sample app and change it")
    return read_config(text.decode(errors="replace"), where=where)


def _newest_first(store: ModelStore) -> Iterator[Pinned]:
    versions = store.versions()
    for version in versions:
        try:
            pinned = store.get(version)
        except ModelError:
            continue  # model-stream fails on it by name; what came before it is still good
        yield pinned
    # Plain objects have no versions, only what is there now.
    if not versions and (current := store.newest()):
        yield current
