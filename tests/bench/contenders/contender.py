"""What a contender is: one way to bring an app and its model into a registry."""

from abc import ABC, abstractmethod
from pathlib import Path

from tests.bench.contenders.content import Content
from tests.bench.contenders.ground import Ground
from tests.bench.contenders.samples import Case


class Contender(ABC):
    """Made anew for each round. Only `ship` is timed."""

    name: str
    note: str = ""
    """What a reader of its figures has to know."""
    our_layout: bool = False
    """Whether a node that has the release before fetches no byte of the model for a commit."""

    def __init__(self, ground: Ground, content: Content, folder: Path) -> None:
        self.ground, self.content, self.folder = ground, content, folder
        folder.mkdir()

    @classmethod
    def unavailable(cls, ground: Ground) -> str:
        """Why it cannot run here; empty if it can. May build or install what it needs, once."""
        return ""

    @abstractmethod
    def prepare(self, case: Case, code: int, model: int) -> None:
        """Lay out what is new, as it lies there for whoever ships it."""

    @abstractmethod
    def ship(self, case: Case, tag: str) -> str | None:
        """Bring it into the registry; the reference that a node pulls, None if no node can start it."""

    def takes(self, case: Case) -> bool:
        """Whether the case is one for it."""
        return True

    def close(self) -> None:
        """Stop what it started; most start nothing that stays."""
        return
