"""The nouns of Linkspan: frozen values, checked once when they are made, JSON in and out.

They travel between flow tasks, in image labels and in a runtime's history, so they hold small things only:
names, numbers and digests, never a model's bytes.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from packaging.version import InvalidVersion, Version
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    TypeAdapter,
    model_validator,
)

from linkspan.errors import ConfigError

# OCI image-spec descriptor.md, "Digests"; SHA-256 is the only algorithm that every registry has.
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
# Names become repository paths, container names, DNS labels and tags at once: RFC 1123 label.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]


# Bytes of JSON: a quarter of what a label of an image may have in the engines, and an event in Prefect.
_MOST_OF_A_MODEL = 64 << 10


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
    # A line break would let one file be listed as two.
    odd = re.search(r"[\\\x00-\x1f\x7f]", path)
    if not path or path.startswith("/") or odd or {"", ".", ".."} & set(parts):
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
    """A version of a model: what it is called, what its content is, how good it is said to be.

    It stands in labels, events and histories, so it has the same few kilobytes whatever it stands for: the
    files themselves are in the store's manifest and in the registry (`listing`), found by `digest`. That is
    the identity of the content, of paths, sizes and hashes; not of name, version or metrics. `size` is the
    bytes of all files, `file_count` how many they are.
    """

    name: Name
    version: str
    digest: Digest
    size: int = Field(ge=0)
    file_count: int = Field(ge=1)
    # Finite: JSON has no other, and what is written into a label must be read again.
    metrics: Mapping[str, FiniteFloat] = Field(default_factory=dict)
    signature: Signature | None = None
    published_by: str = ""
    published_at: datetime | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_files(cls, given: Any) -> Any:
        """What manifests of versions say, and said in labels and histories once: all files."""
        if not isinstance(given, Mapping) or "files" not in given:
            return given
        files = TypeAdapter(tuple[ModelFile, ...]).validate_python(given["files"])
        summed = {"digest": content_of(files), "size": sum(file.size for file in files)}
        rest = {key: value for key, value in given.items() if key != "files"}
        return {**rest, **summed, "file_count": len(files)}

    @model_validator(mode="after")
    def _small(self) -> Self:
        size = len(self.model_dump_json().encode())
        if size > _MOST_OF_A_MODEL:
            raise ValueError(
                f"metrics and signature take {size} bytes, and labels and events hold {_MOST_OF_A_MODEL}"
            )
        return self


def listing(files: Iterable[ModelFile]) -> bytes:
    """Files as text, a line for each, sorted: equal files give equal bytes, in whatever order they come."""
    lines = sorted(f"{file.sha256} {file.size} {file.path}\n" for file in files)
    return "".join(lines).encode()


def listed(data: bytes) -> tuple[ModelFile, ...]:
    """The inverse of `listing`. Raises ValueError for anything else."""
    rows = [line.split(" ", 2) for line in data.decode().split("\n") if line]
    return tuple(ModelFile(sha256=digest, size=int(size), path=path) for digest, size, path in rows)


def content_of(files: Iterable[ModelFile]) -> Digest:
    """The digest of a model with these files: that of their `listing`."""
    return sha256(listing(files))


class Layer(Noun):
    """A layer of an image. `diff_id` is the digest of the uncompressed tar: equal to `digest` for ours."""

    digest: Digest
    diff_id: Digest
    size: int = Field(ge=0)
    media_type: str


class Mount(Noun):
    """A model's own image, mounted read-only into a release's containers where the code expects the model.

    `image` is the full reference by digest, `content` the Model's digest, `path` the folder: both in the
    container and in the image.
    """

    image: str
    content: Digest
    path: str


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
