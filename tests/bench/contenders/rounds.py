"""Rounds in which every contender runs once, in another order each time, with content of its own."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from linkspan.errors import LinkspanError
from tests.bench.contenders.contender import Contender
from tests.bench.contenders.content import Content
from tests.bench.contenders.ground import Failed, Ground
from tests.bench.contenders.memory import Watch
from tests.bench.contenders.samples import Case, Sample
from tests.bench.figures import Say

# Code and model of each case, as versions of the content.
VERSIONS = {Case.FIRST: (1, 1), Case.NOTHING: (1, 1), Case.CODE: (2, 1), Case.MODEL: (2, 2)}


@dataclass(frozen=True)
class Refusal:
    """A contender that did not get through a round."""

    contender: str
    size: int
    why: str


Got = Callable[[Sample | Refusal], None]


def play(
    ground: Ground,
    contenders: Sequence[type[Contender]],
    sizes: Sequence[int],
    rounds: int,
    say: Say,
    got: Got,
) -> None:
    """All rounds of all sizes; `got` hears of each sample as soon as it is there."""
    for number in range(rounds):
        turned = [*contenders[number % len(contenders) :], *contenders[: number % len(contenders)]]
        for size in sizes:
            folder = ground.folder / f"content-{number}-{size}"
            content = Content(folder, os.urandom(8).hex(), size)
            for each in turned:
                say(f"round {number + 1} of {rounds}, {size} MB: {each.name}")
                try:
                    for sample in _turn(ground, each, content, size, number, folder / "turn"):
                        got(sample)
                except (Failed, LinkspanError) as error:
                    say(f"{each.name} gives up: {error}")
                    got(Refusal(each.name, size, str(error)))
            shutil.rmtree(folder)


def _turn(
    ground: Ground, kind: type[Contender], content: Content, size: int, number: int, folder: Path
) -> Iterator[Sample]:
    """A contender's cases. What it leaves is removed: the next one finds nothing that it could use."""
    content.code(1)
    folder.mkdir()
    contender = kind(ground, content, folder / "".join(filter(str.isalnum, kind.name.lower())))
    try:
        for case in Case:
            if contender.takes(case):
                sample, reference = _case(ground, contender, case, size, number)
                yield sample
                # As on a node that has the release before, and none of those before that.
                if reference is not None:
                    ground.forget(but=[reference])
    finally:
        contender.close()
        ground.clear()
        shutil.rmtree(folder)


def _case(
    ground: Ground, contender: Contender, case: Case, size: int, number: int
) -> tuple[Sample, str | None]:
    code, model = VERSIONS[case]
    contender.content.code(code)
    contender.prepare(case, code, model)
    os.sync()  # nobody waits for what another has written
    ground.pushes.reset()
    ground.pulls.reset()
    engine = ground.builder.child.pid
    with Watch([engine]) as watch:
        ground.watch = watch
        begun = time.monotonic()
        reference = contender.ship(case, f"r{number}-{case}")
        shipped = time.monotonic()
    ground.watch = None
    sent = ground.pushes.sent
    started: float | None = None
    if reference is not None:
        again = time.monotonic()
        ground.pull(reference)
        started = shipped - begun + time.monotonic() - again
    in_registry = reference is not None or sent > 0
    return Sample(
        contender=contender.name,
        case=case,
        size=size,
        round=number,
        to_registry=shipped - begun,
        to_start=started,
        sent=sent if in_registry else None,
        fetched=ground.pulls.received if reference is not None else None,
        memory=watch.peak,
    ), reference
