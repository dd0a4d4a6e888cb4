"""What a part of the bench measures, and the table of it."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rich.table import Table

Say = Callable[[str], None]


class Figure(NamedTuple):
    """Samples of one thing, such as one step of a release: `group` is of what, `unit` that of the samples."""

    group: str
    name: str
    samples: Sequence[float]
    unit: str = "s"
    total: bool = False


Measure = Callable[[Say], list[Figure]]
"""A part: says what it does meanwhile and returns what it measured."""


def table(figures: Iterable[Figure]) -> Table:
    """All figures, with the median and the range of their samples."""
    made = Table("", "", "median", "from", "to", "samples", "", box=None, pad_edge=False)
    for column in made.columns[2:6]:
        column.justify = "right"
    group = ""
    for each in figures:
        numbers = [statistics.median(each.samples), min(each.samples), max(each.samples)]
        made.add_row(
            each.group if each.group != group else "",
            each.name,
            *(f"{number:.2f}" if number < 100 else f"{number:.0f}" for number in numbers),
            str(len(each.samples)),
            each.unit,
            style="bold" if each.total else "",
            end_section=each.total,
        )
        group = each.group
    return made
