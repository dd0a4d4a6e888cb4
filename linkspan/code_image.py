"""From a commit to a tested code image in the registry, without doing anything twice.

The registry remembers: `code-<key>` is the image of a tree on a base, `commit-<sha>` says that this commit
was tested. A commit that does not touch the app gets a tag, not a build.
"""

from pathlib import Path

from linkspan.build import Builder
from linkspan.config import CONFIG_FILE, AppConfig, read_config
from linkspan.converge import code_tag, commit_tag
from linkspan.errors import AppTestsFailed, ConfigError, HeldBack
from linkspan.nouns import Commit, Digest, Noun
from linkspan.registry.client import Registry
from linkspan.runtimes.base import Say
from linkspan.verdicts import pardon, reject, rejection

class CodeBuild(Noun):
    """A commit on its way: `digest` is set once its tested image is in the registry, `image` once it is built."""

    commit: Commit
    key: str
    config: AppConfig
    digest: Digest | None = None
    image: str = ""
    pushed: int = 0


def tested_image(registry: Registry, commit: Commit) -> Digest | None:
    """The tested image of a commit, if there is one."""
    return registry.exists(commit_tag(commit.sha))


def read_app(folder: Path, where: str) -> AppConfig:
    """The app's linkspan.toml. Raises ConfigError."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"{where} has no {CONFIG_FILE}", fix="Copy the one of the sample app and change it")
    return read_config(path.read_text(), where=f"{where}/{CONFIG_FILE}")


def reuse(registry: Registry, build: CodeBuild) -> CodeBuild:
    """Tag the commit if an image of the same tree on the same base was tested before."""
    digest = registry.exists(code_tag(build.key))
    if digest is None:
        return build
    registry.tag(digest, commit_tag(build.commit.sha))
    return build.model_copy(update={"digest": digest})


def refuse_if_rejected(registry: Registry, build: CodeBuild, *, on_purpose: bool) -> None:
    """Raise HeldBack for a tree whose tests failed before, unless somebody asks on purpose."""
    known = rejection(registry, _verdict(build))
    if known is None:
        return
    if on_purpose:
        pardon(registry, _verdict(build))
        return
    raise HeldBack(
        f"commit {build.commit.sha[:7]} is held back: {known.reason}",
        fix="Push a commit that mends it, or run the tests once more with `linkspan deploy --commit`",
    )


def run_tests(builder: Builder, registry: Registry, build: CodeBuild, *, say: Say) -> None:
    """Run the app's tests inside the image. Raises AppTestsFailed, and remembers that they failed."""
    try:
        builder.test(build.image, build.config.test, say=say)
    except AppTestsFailed as error:
        reject(registry, _verdict(build), what=f"commit {build.commit.sha[:7]}", reason=str(error))
        raise


def _verdict(build: CodeBuild) -> str:
    return f"code {build.key}"
