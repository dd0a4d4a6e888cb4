"""The nouns of Linkspan: frozen values, checked once when they are made, JSON in and out.

They travel between flow tasks, in image labels and in a runtime's history, so they hold small things only:
names, numbers and digests, never a model's bytes.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Literal, Self

from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from linkspan.errors import ConfigError

# OCI image-spec descriptor.md, "Digests"; SHA-256 is the only algorithm that every registry has.
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
# Names become repository paths, container names, DNS labels and tags at once: RFC 1123 label.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]


def sha256(data: bytes) -> Digest:
    """The OCI digest of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def short(digest_or_sha: str) -> str:
    """Seven characters that a person can compare, of a digest or of a commit."""
    return digest_or_sha.removeprefix("sha256:")[:7]


def version_order(version: str) -> Version:
    """The place of `version` among others: by PEP 440, so `v9 < v10`, `1.0rc1 < 1.0`, `2026.1.2 < 2026.11`.

    The order is in the name, never in a clock: two machines whose clocks disagree still agree on the newest.
    Raises ConfigError for a version that has no order.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", version):
        raise ConfigError(
            f"model version {version!r} cannot be a tag",
            expected="letters, digits, '.', '_' and '-', at most 64",
            fix="Use for example v12, 1.4.2 or 2026.11.22",
        )
    try:
        return Version(version)
    except InvalidVersion:
        raise ConfigError(
            f"model version {version!r} has no order, so nobody could say which one is newest",
            expected="a number such as v12, 1.4.2, 1.5.0rc1 or 2026.11.22 (PEP 440)",
            fix="Leave --version away to get the next number",
        ) from None


def _relative(path: str) -> str:
    parts = path.split("/")
    if not path or path.startswith("/") or "\\" in path or "\0" in path or {"", ".", ".."} & set(parts):
        raise ValueError(f"{path!r} is not a plain relative path")
    return path


RelativePath = Annotated[str, AfterValidator(_relative)]


class Noun(BaseModel):
    """A frozen value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Commit(Noun):
    """A git commit and the tree of the app's folder in it; `tree` decides whether an image must be built."""

    sha: Sha
    tree: Sha
    author: str
    subject: str
    committed_at: datetime


class ModelFile(Noun):
    """A file of a model: its path below the model's folder, size in bytes, hex SHA-256 of its bytes."""

    path: RelativePath
    size: int = Field(ge=0)
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Tensor(Noun):
    """An input or output of a model. A dimension that varies is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Signature(Noun):
    """What a model takes and gives."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Model(Noun):
    """A version of a model: what it is called, which files it is, how good it is said to be."""

    name: Name
    version: str
    files: tuple[ModelFile, ...]
    # Finite: JSON has no other, and what is written into a label must be read again.
    metrics: Mapping[str, FiniteFloat] = Field(default_factory=dict)
    signature: Signature | None = None
    published_by: str = ""
    published_at: datetime | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> Digest:
        """Identity of the content: of paths, sizes and hashes, not of name, version or metrics."""
        return content_of(self.files)


def content_of(files: Iterable[ModelFile]) -> Digest:
    """Identity of files: of their paths, sizes and hashes, in whatever order they come."""
    lines = sorted(f"{file.sha256} {file.size} {file.path}\n" for file in files)
    return sha256("".join(lines).encode())


class Layer(Noun):
    """A layer of an image. `diff_id` is the digest of the uncompressed tar: equal to `digest` for ours."""

    digest: Digest
    diff_id: Digest
    size: int = Field(ge=0)
    media_type: str


class Release(Noun):
    """The only thing that is deployed or rolled back: a commit, a model, and the image that holds both."""

    app: Name
    commit: Commit
    model: Model
    image: Digest

    @property
    def title(self) -> str:
        """How people speak of it: `digits: 3fa9c1d + v12`."""
        return f"{self.app}: {short(self.commit.sha)} + {self.model.version}"


class Revision(Noun):
    """A rollout of a release in one environment, as the runtime remembers it.

    `number` counts from 1. `cause` says who or what started it. `pinned` means that the flows must leave it
    alone until somebody releases on purpose. `outcome` is `failed` for one that never became ready, `reason`
    says why. `run` names the flow run, if it was one.
    """

    number: int = Field(ge=1)
    release: Release
    cause: str
    at: datetime
    run: str = ""
    pinned: bool = False
    outcome: Literal["live", "replaced", "failed"] = "live"
    reason: str = ""

    def with_outcome(self, outcome: Literal["live", "replaced", "failed"], reason: str = "") -> Self:
        return self.model_copy(update={"outcome": outcome, "reason": reason})
