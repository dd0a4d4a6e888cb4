"""From a commit to a tested code image in the registry, without doing anything twice.

The registry remembers: `code-<key>` is the image of a tree on a base, `commit-<sha>` says that this commit
was tested. A commit that does not touch the app gets a tag, not a build.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from linkspan.code.builder import Builder
from linkspan.code.mountpoint import mountpoint
from linkspan.code.push import moved
from linkspan.code.source import GitSource
from linkspan.config import CONFIG_FILE, AppConfig, load_config
from linkspan.errors import AppTestsFailed, BuildFailed, RegistryError
from linkspan.ledger import series
from linkspan.ledger.tags import code_tag, commit_tag
from linkspan.ledger.values import no_room
from linkspan.ledger.verdicts import note, pardon, rejection
from linkspan.nouns import Commit, Digest, Noun, short
from linkspan.progress import Say
from linkspan.registry.client import Registry
from linkspan.registry.media import Image
from linkspan.runtimes.kubernetes.app_objects import load

# A build also fails because a package index was away for a moment: unlike a verdict of the app's own tests
# this one is not for good.
BUILD_HELD = timedelta(hours=1)

# Of the 125 that engines take (release/link.py), less what a model may have (models/parts.py).
_MOST_LAYERS = 100


class CodeBuild(Noun):
    """A commit on its way: `image` is set once it is built, `digest` once the tested image is pushed.

    `held` says why nothing was built, for a tree that was refused before.
    """

    commit: Commit
    key: str
    config: AppConfig
    digest: Digest | None = None
    image: str = ""
    pushed: int = 0
    held: str = ""


def tested_image(registry: Registry, commit: Commit) -> Digest | None:
    """The tested image of a commit, if there is one."""
    return registry.exists(commit_tag(commit.sha))


def build(
    source: GitSource,
    registry: Registry,
    builder: Builder,
    commit: Commit,
    *,
    refresh: bool,
    on_purpose: bool,
    say: Say,
) -> CodeBuild:
    """Check the commit out and build its image, unless the same tree on the same base was tested before.

    `refresh` looks for newer base images first. A tree whose tests failed before, or whose build failed less
    than an hour ago, is held back unless `on_purpose`. Raises ConfigError, BuildFailed, which is remembered,
    and whatever git and the registry raise.
    """
    with source.checkout(commit) as folder:
        config = load_config(folder, where=f"{CONFIG_FILE} of {short(commit.sha)}")
        objects = load(folder)
        key = builder.key(folder, commit, refresh=refresh, say=say)
        found = CodeBuild(commit=commit, key=key, config=config, digest=registry.exists(code_tag(key)))
        unfit = _unfit(registry, found, registry.image(found.digest), say=say) if found.digest else None
        if found.digest and unfit is None:
            series.add(registry, commit_tag(commit.sha), found.digest)
            say(f"The same tree was built and tested before: {found.digest}")
            return found
        if held := _held(registry, found, on_purpose=on_purpose):
            return found.model_copy(update={"held": held, "digest": None})
        if unfit:
            note(registry, _verdict(found), _called(found), unfit, say=say)
            raise unfit
        try:
            image = builder.build(
                folder,
                commit=commit,
                config=config,
                objects=objects,
                tag=f"linkspan/{config.name}:{code_tag(key)}",
                say=say,
            )
        except BuildFailed as error:
            note(registry, _build_verdict(found), _called(found), error, say=say)
            raise
        return found.model_copy(update={"image": image})


def _held(registry: Registry, build: CodeBuild, *, on_purpose: bool) -> str:
    """Why this tree must not be built again; empty if it may."""
    for key, hold in ((_verdict(build), timedelta.max), (_build_verdict(build), BUILD_HELD)):
        known = rejection(registry, key)
        if known and on_purpose:
            pardon(registry, key)
        # Either way: a machine whose clock is a day ahead holds nothing back for a day.
        elif known and abs(datetime.now(UTC) - known.at) < hold:
            again = "Push a commit that mends it, or try it again on purpose with `linkspan deploy`"
            return f"{_called(build)} is held back: {known.reason}. {again}"
    return ""


def run_tests(builder: Builder, registry: Registry, build: CodeBuild, *, say: Say) -> None:
    """Run the app's tests inside the image. Raises AppTestsFailed, and remembers that they failed."""
    try:
        builder.test(build.image, build.config.test, say=say)
    except AppTestsFailed as error:
        note(registry, _verdict(build), _called(build), error, say=say)
        raise


def push(
    builder: Builder, registry: Registry, build: CodeBuild, *, auth: Mapping[str, str] | None, say: Say
) -> CodeBuild:
    """Push the tested image through the engine, and say in the registry which commit it is.

    `auth` is {"username": …, "password": …} for the engine. Raises the registry's errors, and BuildFailed,
    which is remembered, for an image into which no model can be linked.
    """
    tag = code_tag(build.key)
    try:
        digest = builder.push(build.image, registry.name, tag, auth, say=say)
    except RegistryError as error:
        # Another worker was quicker with the same tree: its image was tested too, and its tag is not moved.
        theirs = registry.exists(tag)
        if theirs is None:
            raise
        say(f"The same tree was built, tested and pushed by somebody else meanwhile ({error.what})")
        digest = theirs
    image = registry.image(digest)
    if unfit := _unfit(registry, build, image, say=say):
        note(registry, _verdict(build), _called(build), unfit, say=say)
        raise unfit
    series.add(registry, commit_tag(build.commit.sha), digest)
    return build.model_copy(update={"digest": digest, "pushed": moved(image, builder.pushed)})


def _unfit(registry: Registry, build: CodeBuild, image: Image, *, say: Say) -> BuildFailed | None:
    """Why no model could ever be linked into its image, which is there, so that it must not be the newest."""
    folder = build.config.model.path
    if (count := len(image.manifest.document.get("layers") or [])) > _MOST_LAYERS:
        return BuildFailed(
            f"the image of {_called(build)} has too many layers",
            expected=f"at most {_MOST_LAYERS}, so that a model's fit in beside them",
            found=count,
            fix="Join RUN and COPY lines of the Dockerfile",
        )
    try:
        found = mountpoint(registry, image, folder, say=say)
    except BuildFailed as error:
        return error
    if not found.obstacles:
        return None
    return no_room(BuildFailed, f"the image of {_called(build)}", folder, "; ".join(found.obstacles))


def _called(build: CodeBuild) -> str:
    return f"commit {short(build.commit.sha)}"


def _verdict(build: CodeBuild) -> str:
    return f"code {build.key}"


def _build_verdict(build: CodeBuild) -> str:
    return f"build {build.key}"
