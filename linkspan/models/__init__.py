"""Published models: what is there, which bytes a version is, and how a new one is added.

Written once, over any ObjectStore.
"""

from linkspan.models.base import ModelStore, Pinned, identify
from linkspan.models.plain import PlainObjects
from linkspan.models.publish import publish
from linkspan.models.versions import PublishedModels

__all__ = ["ModelStore", "Pinned", "PlainObjects", "PublishedModels", "identify", "publish"]
