"""The tags that Linkspan puts in the registry: what each says, and how it follows from what it names."""

from linkspan.nouns import Digest, Release, sha256, short

_FORM = 2
"""Of what is under the tags of models: a change of it means that models are packaged once more."""


def commit_tag(sha: str) -> str:
    """The tag of the tested image of a commit."""
    return f"commit-{sha}"


def code_tag(key: str) -> str:
    """The tag of the tested image of a build key."""
    return f"code-{key[:32]}"


def model_tag(name: str, version: str) -> str:
    """The tag of the ModelPack manifest of a version, for people."""
    return f"model-{name}-{version}"


def pinned_tag(fingerprint: str, folder: str) -> str:
    """The tag of the ModelPack manifest of what a store holds now, packed below `folder`."""
    return "pinned-" + _hex(f"{_FORM} {fingerprint} {folder}")


def layer_tag(content: Digest, folder: str) -> str:
    """The tag of a ModelPack manifest whose layers hold this content below `folder`, whatever its version."""
    return "layer-" + _hex(f"{_FORM} {content} {folder}")


def part_tag(content: Digest, folder: str) -> str:
    """The tag of one layer of a model: of the files with this content below `folder`."""
    return "part-" + _hex(f"{_FORM} {content} {folder}")


def mounted_tag(image: Digest) -> str:
    """The tag of a model's image that releases mount: no manifest names it, so this keeps it."""
    return "mounted-" + image.removeprefix("sha256:")[:32]


def mountpoint_tag(read: Digest, folder: str) -> str:
    """The tag of what a code image, or a layer of one, holds at `folder`."""
    return "mountpoint-" + _hex(f"{_FORM} {read} {folder}")


def release_tag(release: Release) -> str:
    """The tag that makes a release exist: readable, and unique because it ends in the digest."""
    digest = release.image.removeprefix("sha256:")
    return f"release-{short(release.commit.sha)}-{release.model.version}-{digest[:12]}"


def rejection_key(digest: Digest, environment: str) -> str:
    """What a verdict on a release is filed under: another environment has other variables and memory."""
    return f"release {digest} {environment}"


def rejection_tag(key: str) -> str:
    """The tag of a key's rejection."""
    return "rejected-" + _hex(key)


def _hex(text: str) -> str:
    return sha256(text.encode()).removeprefix("sha256:")[:32]
