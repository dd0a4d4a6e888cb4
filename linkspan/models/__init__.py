"""Published models: what is there, which bytes a version is, and how a new one is added.

Written once, over any ObjectStore.
"""

from linkspan.models.base import ModelStore, Pinned, identify
from linkspan.models.plain import PlainObjects
from linkspan.models.publish import publish
from linkspan.models.versions import PublishedModels
from linkspan.stores.settings import StoreSettings

__all__ = ["ModelStore", "Pinned", "PlainObjects", "PublishedModels", "identify", "open_models", "publish"]


def open_models(store: StoreSettings, name: str) -> ModelStore:
    """The versions of the model `name` in a store: published ones, or the plain objects if there are any.

    Raises ConfigError for settings that contradict each other; opens no connection.
    """
    if store.plain_objects:
        return PlainObjects(store.objects(), name, store.plain_objects)
    return PublishedModels(store.objects(), name)
