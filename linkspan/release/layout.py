"""Where a model's layers go among the code's: what is heavy lies below what is light.

An engine keeps a layer under the digests of all that lie below it, so a change of one layer makes it fetch
and unpack anew all layers above it. The rule is the cheapest place by what each change then costs beyond its
own bytes:

- **A new model** is 1 in 5 of what is released. It costs the code's layers that lie above the lowest of its
  own that has changed: half of the new models are trained anew and change all of them, half change one file,
  whichever.
- **A commit** is 4 in 5. It costs the model's layer if the lowest code layer that it changes lies below it.
  How low it reaches is not known, only that people order a Dockerfile by it: a change that makes ten times as
  many bytes anew is ten times as rare (Zipf's law, flat below 4 MB). With the sample (a base of 30 MB, 80 MB
  of libraries, 40 KB of source) that is: **source** 95 %, **dependencies** 2 %, **base** 3 %.

So a model lies right below the source, unless it weighs so much more than the libraries that even to fetch it
again for new libraries now and then costs more than they do for each new model: then it lies below them.
Files that are heavy only together lie together, and a small one above them, where it moves only itself.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Literal

from pydantic import Field

from linkspan.nouns import Noun

_MODEL = Fraction(1, 5)
_TRAINED = Fraction(1, 2)
_FLAT = 4_000_000


class Stratum(Noun):
    """Neighbouring layers of one half of a release; `size` in bytes, as the registry has them."""

    half: Literal["code", "model"]
    layers: int = Field(ge=1)
    size: int = Field(ge=0)


def layout(code: Sequence[int], model: Sequence[int]) -> tuple[int, ...]:
    """How many of the code's layers lie below each of the model's; sizes in bytes, the code's bottom first.

    A pure function of the sizes, by exact arithmetic; of places that cost the same, the lowest.
    """
    above = [sum(code[below:]) for below in range(len(code) + 1)]
    places = range(len(above))
    own = [[_own(above, below, size, len(model)) for below in places] for size in model]
    # What they share is the lowest place; given that, each has its own best.
    found = [tuple(min(places[lowest:], key=each.__getitem__) for each in own) for lowest in places]
    return min(found, key=lambda each: cost(above, each, model))


def cost(above: Sequence[int], below: Sequence[int], sizes: Sequence[int]) -> Fraction:
    """Bytes that an average change moves beyond its own for a model with layers of these `sizes` in bytes.

    `below` says how many of the code's lie below each; `above[n]` bytes of code lie above the lowest n.
    """
    own = (_own(above, place, size, len(sizes)) for place, size in zip(below, sizes, strict=True))
    return sum(own, start=_MODEL * _TRAINED * above[min(below)])


def _own(above: Sequence[int], below: int, size: int, count: int) -> Fraction:
    """What one of `count` layers costs by itself: for commits, and when it is the only one that changes."""
    reached = Fraction(0)
    if below:  # the least that a commit makes anew is the topmost layer
        reached = Fraction(_FLAT + above[-2], _FLAT + above[below - 1])
    return (1 - _MODEL) * reached * size + _MODEL * (1 - _TRAINED) * Fraction(above[below], count)


def strata(code: Sequence[int], model: Mapping[int, Sequence[int]]) -> tuple[Stratum, ...]:
    """The release from its bottom to its top: `model` has sizes by how many code layers lie below."""
    halves: list[tuple[Literal["code", "model"], int]] = []
    for below in range(len(code) + 1):
        halves += [("code", code[below - 1])] if below else []
        halves += [("model", size) for size in model.get(below, ())]
    runs = [(half, [size for _, size in run]) for half, run in groupby(halves, key=lambda each: each[0])]
    return tuple(Stratum(half=half, layers=len(sizes), size=sum(sizes)) for half, sizes in runs)
