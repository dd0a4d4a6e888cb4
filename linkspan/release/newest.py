"""Asks the sources what is newest now: the newest commit with a tested image, the newest model with a layer.

The registry's tags say what was tested and validated; the git history and the store's listing say in which
order. No clock decides anything.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from linkspan.code.source import GitSource
from linkspan.config import CONFIG_FILE, AppConfig, parse_config
from linkspan.errors import CommitNotFound, ConfigError, ModelError, ModelNotFound
from linkspan.ledger.labels import read_code_image
from linkspan.ledger.series import last_of
from linkspan.ledger.tags import commit_tag
from linkspan.ledger.values import CodeImage, PackagedModel
from linkspan.models import ModelStore
from linkspan.models.package import packaged_already, packaged_content, packaged_version
from linkspan.nouns import Commit, Model, short
from linkspan.progress import Say
from linkspan.registry.client import Registry
from linkspan.release.converge import newest_tested


def newest_code(source: GitSource, registry: Registry, commit: str | None = None) -> CodeImage | None:
    """The newest tested code image, or that of `commit`; None if no commit's tests have passed yet.

    Raises CommitNotFound for a named commit that is not there or has no tested image.
    """
    with ThreadPoolExecutor(1) as beside:  # two others are asked, and each takes its time
        listed = beside.submit(registry.tags)
        commits = source.recent() if commit is None else [source.commit(commit)]
        tags = frozenset(listed.result())
    found = newest_tested(commits, tags) if commit is None else commits[0]
    if found is None:
        return None
    tag = last_of(tags, commit_tag(found.sha))
    if tag is None:
        raise CommitNotFound(
            f"commit {found.sha} has no tested image in {registry.name}",
            fix="Run app-stream for it first; if it did run, its tests did not pass",
        )
    return read_code_image(registry.image(tag))


def newest_model(
    store: ModelStore,
    registry: Registry,
    folder: str,
    version: str | None = None,
    *,
    live: Callable[[], Model | None] = lambda: None,
) -> PackagedModel | None:
    """The newest model that is valid and packed below `folder`, or `version`; None if there is none yet.

    `live` gives the model that is live: it stays when the store holds no valid one any more, as after a bad
    upload over plain objects. Raises ModelNotFound for a named version that is not there or was never
    validated.
    """
    if version is None:
        found = next(_packed(store, registry, folder), None)
        if found is None and (kept := live()) and kept.name == store.name:
            return packaged_content(registry, kept, folder)
        return found
    packaged = packaged_already(registry, store.get(version), folder)
    if packaged is None:
        raise ModelNotFound(
            f"model {store.name} {version} has no layer below {folder} in {registry.name}",
            fix="Run model-stream for it first; if it did run, the model is not valid",
        )
    return packaged


def usable_config(source: GitSource, say: Say) -> AppConfig | None:
    """linkspan.toml of the newest commit where it can be read, so that a slip in it stops no model.

    None if nothing was committed yet. Raises the newest commit's ConfigError if no commit has a good one.
    """
    try:
        return newest_config(source)
    except ConfigError as error:
        for commit in source.recent():
            try:
                config = _config_of(source, commit)
            except ConfigError:
                continue
            say(f"{error}. Until then that of {short(commit.sha)} is used")
            return config
        raise


def newest_config(source: GitSource) -> AppConfig | None:
    """linkspan.toml as it is in the newest commit; None if nothing was committed yet. Raises ConfigError."""
    commit = source.newest()
    return _config_of(source, commit) if commit else None


def _config_of(source: GitSource, commit: Commit) -> AppConfig:
    data = source.read(commit, CONFIG_FILE)
    where = f"{CONFIG_FILE} of {short(commit.sha)}"
    if data is None:
        raise ConfigError(f"there is no {where}", fix="Copy the one of the sample app and change it")
    return parse_config(data, where=where)


def _packed(store: ModelStore, registry: Registry, folder: str) -> Iterator[PackagedModel]:
    """The store's versions that are packed, newest first; model-stream says what is wrong with the others."""
    versions = store.versions()
    for version in versions:
        try:
            found = packaged_already(registry, store.get(version), folder)
        except ModelError:
            # A file of it is gone. A layer that was made of it before is still good.
            found = packaged_version(registry, store.name, version, folder)
        if found:
            yield found
    if not versions:  # plain objects have none, only what is there now
        try:
            current = store.newest()
        except ModelError:
            return
        found = packaged_already(registry, current, folder) if current else None
        if found:
            yield found
