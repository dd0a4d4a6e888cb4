"""Where a model's layers go: the cheapest place by the changes that are to be expected, by sizes alone."""

import itertools
import random
from fractions import Fraction

import pytest

from linkspan.release.layout import Stratum, cost, layout, strata

KB, MB, GB = 10**3, 10**6, 10**9
# Base, what the base adds, the list of libraries, the libraries, the source.
SAMPLE = (30 * MB, 1 * MB, 12 * MB, 500, 80 * MB, 40 * KB)
HEAVY = (30 * MB, 20 * MB, 500, 300 * MB, 20 * KB)


@pytest.mark.parametrize(
    ("code", "size", "below"),
    [
        (SAMPLE, 30 * KB, 5),  # a commit fetches its source alone
        (SAMPLE, 300 * MB, 5),
        (SAMPLE, 5 * GB, 0),  # not even a newer base fetches the model again
        (HEAVY, 300 * MB, 4),  # nor does a model fetch 300 MB of libraries
        (HEAVY, 50 * GB, 0),
        ((*SAMPLE[:-1], 5 * MB), 1 * KB, 6),  # lighter than the source by far: above it
        ((80 * MB, 20 * KB, 5 * KB, 1 * KB), 100 * KB, 1),  # source in several layers: below all of it
        ((3 * GB, 400, 50 * MB, 20 * KB), 100 * MB, 3),
        ((3 * GB, 400, 50 * MB, 20 * KB), 1 * GB, 1),  # above the base, which changes least
        ((20 * KB,), 100 * MB, 0),
        ((), 100 * MB, 0),
    ],
)
def test_what_is_heavy_lies_below_what_is_light(code: tuple[int, ...], size: int, below: int) -> None:
    assert layout(code, [size]) == (below,)


@pytest.mark.parametrize(
    ("code", "model", "below"),
    [
        # Four weights of 255 MB are as one of a gigabyte; the tokenizer moves none of them.
        (SAMPLE, [255 * MB] * 4 + [200 * KB], (0, 0, 0, 0, 5)),
        (SAMPLE, [1020 * MB, 200 * KB], (0, 5)),
        (SAMPLE, [255 * MB, 200 * KB], (5, 5)),
        (HEAVY, [50 * MB] * 6, (4,) * 6),
        (HEAVY, [5 * GB] * 10 + [30 * MB, 1 * KB], (0,) * 10 + (4, 4)),
    ],
)
def test_what_changes_together_lies_together(
    code: tuple[int, ...], model: list[int], below: tuple[int, ...]
) -> None:
    assert layout(code, model) == below


def images(seed: int) -> tuple[list[int], list[int]]:
    rng = random.Random(seed)
    code = [int(10 ** rng.uniform(0, 9.5)) for _ in range(rng.randint(0, 40))]
    return code, [int(10 ** rng.uniform(0, 11)) for _ in range(rng.randint(1, 24))]


@pytest.mark.parametrize("seed", range(60))
def test_no_other_places_are_cheaper(seed: int) -> None:
    """All ways to lay up to four layers of a model among up to five of a code image."""
    code, model = (each[:most] for each, most in zip(images(seed), (5, 4), strict=True))
    above = [sum(code[below:]) for below in range(len(code) + 1)]
    every = itertools.product(range(len(above)), repeat=len(model))
    costs = {places: cost(above, places, model) for places in every}
    found = layout(code, model)
    assert costs[found] == min(costs.values())
    assert found == min(places for places in costs if costs[places] == costs[found]), "the lowest of them"
    assert found == layout(tuple(code), tuple(model)), "a pure function"


@pytest.mark.parametrize("seed", range(40))
def test_a_heavier_layer_never_lies_higher(seed: int) -> None:
    code, model = images(seed)
    places = layout(code, sorted(model))
    assert list(places) == sorted(places, reverse=True)


def test_what_the_sample_is_expected_to_change() -> None:
    """The likelihoods of the docstring: which of 100 commits reaches how far down."""
    above = [sum(SAMPLE[below:]) for below in range(len(SAMPLE) + 1)]

    def reaches(below: int) -> int:
        """Percent of commits that change a layer below that place."""
        commits = cost(above, [below], [10]) - Fraction(above[below], 5)
        return round(100 * commits / (Fraction(4, 5) * 10))

    assert (reaches(6), reaches(5), reaches(1), reaches(0)) == (100, 5, 3, 0)


def test_strata_from_the_bottom_to_the_top() -> None:
    assert strata([5, 6, 7], {0: [100, 90], 2: [3]}) == (
        Stratum(half="model", layers=2, size=190),
        Stratum(half="code", layers=2, size=11),
        Stratum(half="model", layers=1, size=3),
        Stratum(half="code", layers=1, size=7),
    )
    assert strata([], {0: [1]}) == (Stratum(half="model", layers=1, size=1),)
