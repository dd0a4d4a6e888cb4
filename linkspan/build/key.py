"""What decides whether an image must be built: the app's tree, the base images, the options, the platform."""

import hashlib
import json
from collections.abc import Sequence

# Raise it when the same input would be built to something else by this version of Linkspan.
_SCHEME = 2


def build_key(tree: str, base_ids: Sequence[str], options: Sequence[str], platform: str) -> str:
    """32 hex digits, the same for the same input on every machine.

    `tree` is the git tree of the app's folder, `base_ids` are the IDs of the images it builds on, in the
    Dockerfile's order, `options` are build arguments and whatever else changes the result.
    """
    parts = [_SCHEME, tree, list(base_ids), sorted(options), platform]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
