"""What the service is told by its environment; Linkspan puts the LINKSPAN_ names into every release."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """`commit` and `model_*` say what this release is made of; "unknown" outside of a release."""

    model_path: Path = Path("/model")
    commit: str = "unknown"
    model_name: str = "unknown"
    model_version: str = "unknown"
    model_digest: str = "unknown"
    max_images: int = 32  # of one request
    max_body: int = 10 * 1024 * 1024  # bytes
    model_threads: int = 1  # of one inference; requests run side by side already

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Raises ValueError for a number that is none."""
        return cls(
            model_path=Path(env.get("LINKSPAN_MODEL_PATH", "/model")),
            commit=env.get("LINKSPAN_COMMIT", "unknown"),
            model_name=env.get("LINKSPAN_MODEL_NAME", "unknown"),
            model_version=env.get("LINKSPAN_MODEL_VERSION", "unknown"),
            model_digest=env.get("LINKSPAN_MODEL_DIGEST", "unknown"),
            max_images=int(env.get("MAX_IMAGES", cls.max_images)),
            max_body=int(env.get("MAX_BODY_BYTES", cls.max_body)),
            model_threads=int(env.get("MODEL_THREADS", cls.model_threads)),
        )

    def release(self) -> dict[str, object]:
        """Which release this is, as /version and every answer say it."""
        model = {"name": self.model_name, "version": self.model_version, "digest": self.model_digest}
        return {"commit": self.commit, "model": model}
