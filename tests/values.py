"""Nouns for tests, told apart by a number."""

from collections.abc import Sequence
from datetime import UTC, datetime

from linkspan.config import AppConfig
from linkspan.ledger.values import CodeImage
from linkspan.nouns import Commit, Model, ModelFile, Release, Revision

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def commit(number: int, *, subject: str = "A change", author: str = "Ada") -> Commit:
    """Its sha begins with the number in seven digits."""
    return Commit(
        sha=f"{number:07d}" + "c" * 33,
        tree=f"{number:040x}",
        author=author,
        subject=subject,
        committed_at=NOW,
    )


def model_of(files: Sequence[ModelFile], **fields: object) -> Model:
    """A model with these files."""
    return Model.model_validate({"files": tuple(files), **fields})


def model(version: str, **fields: object) -> Model:
    """A version of `digits` with one file of 12 bytes."""
    file = ModelFile(path="model.onnx", size=12, sha256="e" * 64)
    return model_of([file], name="digits", version=version, **fields)


def release(number: int, version: str) -> Release:
    """A commit, a model and an image whose digest begins with `f` and the number in six digits."""
    image = f"sha256:f{number:06d}" + "0" * 57
    return Release(app="digits", commit=commit(number), model=model(version), image=image)


def revision(number: int, of: Release, **fields: object) -> Revision:
    """A rollout of a release."""
    return Revision.model_validate({"number": number, "release": of, "cause": "a push", "at": NOW, **fields})


def code_image(number: int) -> CodeImage:
    """The tested image of a commit."""
    config = AppConfig.model_validate({"name": "digits", "model": {"name": "digits"}})
    return CodeImage(commit=commit(number), config=config, digest=f"sha256:{number:064x}")
