"""The names that Linkspan writes on objects in a cluster, where people and `kubectl` find them."""

from typing import Final

FIELD_MANAGER: Final = "linkspan"
"""Owner of the fields that Linkspan applies (server-side apply)."""

PLACEHOLDER: Final = "linkspan.dev/app"
"""The image in a manifest that stands for the release's."""

PULL_SECRET: Final = "linkspan-registry"  # noqa: S105 a name

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
SERVICE: Final = "linkspan.dev/service"
"""Label: `<app>-<environment>`, on every object of the service."""
HISTORY: Final = "linkspan.dev/history"
"""Label: `<app>-<environment>`, on the ControllerRevisions that are the history."""
REVISION: Final = "linkspan.dev/revision"
"""Label of pods and annotation of the Deployment: the number of the revision."""

RELEASE: Final = "linkspan.dev/release"
COMMIT: Final = "linkspan.dev/commit"
COMMIT_AUTHOR: Final = "linkspan.dev/commit-author"
COMMIT_SUBJECT: Final = "linkspan.dev/commit-subject"
MODEL: Final = "linkspan.dev/model"
MODEL_DIGEST: Final = "linkspan.dev/model-digest"
MODEL_METRICS: Final = "linkspan.dev/model-metrics"
MODEL_PUBLISHER: Final = "linkspan.dev/model-publisher"
IMAGE: Final = "linkspan.dev/image"
CAUSE: Final = "linkspan.dev/cause"
RUN: Final = "linkspan.dev/run"
AT: Final = "linkspan.dev/at"
PINNED: Final = "linkspan.dev/pinned"
OUTCOME: Final = "linkspan.dev/outcome"
REASON: Final = "linkspan.dev/reason"
CHANGE_CAUSE: Final = "kubernetes.io/change-cause"
"""What `kubectl rollout history` shows."""
