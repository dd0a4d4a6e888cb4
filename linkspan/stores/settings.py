"""What every store asks a person for, apart from its address: which objects make the model."""

from abc import abstractmethod

from pydantic import BaseModel, Field

from linkspan.stores.base import ObjectStore

PREFIX = "Folder inside it, for example team-a/models. Leave empty to use all of it."


def folder(prefix: str) -> str:
    """What keys begin with: the prefix that a person gave, with one slash at its end, or nothing."""
    inner = prefix.strip("/")
    return f"{inner}/" if inner else ""


class StoreSettings(BaseModel):
    """Settings of a store. Subclasses add the address and the credentials, and say how to open it."""

    plain_objects: list[str] = Field(
        default_factory=list,
        title="Plain objects",
        description=(
            "Leave empty if models are published with `linkspan publish`. Else the objects that make up the "
            "model, each as key or as path=key: for example ResNet_152.model, labels.txt=meta/synset.txt. "
            "Their version is then made from their content."
        ),
    )

    @abstractmethod
    def objects(self) -> ObjectStore:
        """The store. Raises ConfigError for settings that contradict each other; opens no connection."""
