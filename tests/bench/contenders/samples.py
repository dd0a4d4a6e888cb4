"""What was measured, and what is made of it: medians, and how many times Linkspan's they are."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Case(StrEnum):
    """What is new, in the order in which a contender meets it; each comes on top of the one before."""

    FIRST = "first"
    NOTHING = "no-op"
    CODE = "code-only"
    MODEL = "model-only"


LINKSPAN = "Linkspan"


@dataclass(frozen=True)
class Sample:
    """One contender, once. What cannot be is None: no node starts an artifact that is no image."""

    contender: str
    case: Case
    size: int
    """MB of the model."""
    round: int
    to_registry: float
    """Seconds until the registry has it."""
    to_start: float | None
    """Seconds until a container of it is created on the node, those to the registry included."""
    sent: int | None
    """Bytes to the registry."""
    fetched: int | None
    """Bytes to the node."""
    memory: int
    """Bytes at the peak of the way to the registry."""


Figure = Callable[[Sample], float | None]

FIGURES: dict[str, Figure] = {
    "to_registry": lambda sample: sample.to_registry,
    "to_start": lambda sample: sample.to_start,
    "sent": lambda sample: sample.sent,
    "fetched": lambda sample: sample.fetched,
    "memory": lambda sample: sample.memory,
}


@dataclass(frozen=True)
class Results:
    """All samples of a run."""

    samples: Sequence[Sample]

    def median(self, contender: str, case: Case, size: int, figure: str) -> float | None:
        """Over all rounds; None if there is nothing of it."""
        found = [FIGURES[figure](each) for each in self._of(contender, case, size)]
        numbers = [each for each in found if each is not None]
        return statistics.median(numbers) if numbers else None

    def ratio(self, contender: str, case: Case, size: int, figure: str) -> float | None:
        """How many times Linkspan's median its own is."""
        own = self.median(contender, case, size, figure)
        ours = self.median(LINKSPAN, case, size, figure)
        return own / ours if own is not None and ours else None

    def best(self, case: Case, size: int, figure: str, among: Iterable[str]) -> tuple[str, float] | None:
        """Who of those has the smallest median, and it."""
        found = [(name, self.median(name, case, size, figure)) for name in among]
        there = [(name, median) for name, median in found if median is not None]
        return min(there, key=lambda each: each[1], default=None)

    @property
    def contenders(self) -> list[str]:
        return list(dict.fromkeys(each.contender for each in sorted(self.samples, key=_order)))

    @property
    def sizes(self) -> list[int]:
        return sorted({each.size for each in self.samples})

    def count(self, contender: str, case: Case, size: int) -> int:
        return len(self._of(contender, case, size))

    def _of(self, contender: str, case: Case, size: int) -> list[Sample]:
        return [
            each for each in self.samples if (each.contender, each.case, each.size) == (contender, case, size)
        ]


def _order(sample: Sample) -> bool:
    return sample.contender != LINKSPAN
