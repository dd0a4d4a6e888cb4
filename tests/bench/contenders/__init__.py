"""Linkspan beside what people use instead: seconds, bytes and memory from what is new to what can be started.

The rules, the same for everybody:

- One registry (Distribution 2.8, blobs on this disk, behind a password), one Docker Engine that builds, and
  another one that is the node. Nobody else uses the three; the registry has the base image before all begin.
- One app: the base image of the tests, 8 MB of libraries, one source file. One model: a file of random bytes
  of so many MB, which nothing compresses. Both are new in each round, and the same for all of a round.
- In each round every contender runs once, and each round begins with another one. The cases follow each
  other: **first** (app and model), **no-op** (the same once more), **code-only** (a line of the source),
  **model-only** (another model of the same size). In between the node keeps the release before, as nodes do,
  and the builder all its caches. At the end what the contender left is removed: images, caches, blobs.
- What is timed is `ship`: from where code and model lie to the last byte in the registry. Linkspan begins
  with the commit in git and the version in the store. Others find the working copy and the model's file laid
  out as hard links: to copy the model into a build context costs them nothing. Publishing is not counted.
- Then the node pulls (`docker pull`, `docker create`), and **the node can start it**: both times together.
- All earlier writes are on the disk before the clock starts (`sync`); what was just written is in memory.
- Bytes are counted at the registry's door, for builder and node apart, heads of HTTP included, by something
  that costs next to nothing (tests/services/tally.py).
- Memory is what the contender's processes have resident at the peak, added up, and what the builder's engine
  has more than before (memory.py). The registry's own and the node's are not in it.
- Left out by all: tests of the app, smoke tests, signatures, rollouts.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.contenders import record
from tests.bench.contenders.bento import Bento
from tests.bench.contenders.buildah import Buildah
from tests.bench.contenders.contender import Contender
from tests.bench.contenders.crane import Crane
from tests.bench.contenders.docker_build import Docker, Reference
from tests.bench.contenders.ground import ground
from tests.bench.contenders.linkspan import Linkspan
from tests.bench.contenders.mlflow import Mlflow
from tests.bench.contenders.oras import Oras
from tests.bench.contenders.raw import DurableRaw, Raw
from tests.bench.contenders.record import Record
from tests.bench.contenders.rounds import Refusal, play
from tests.bench.contenders.samples import Sample
from tests.bench.figures import Say
from tests.services import own_engine

BY_NAME: dict[str, type[Contender]] = {
    "linkspan": Linkspan,
    "docker": Docker,
    "reference": Reference,
    "oras": Oras,
    "crane": Crane,
    "buildah": Buildah,
    "bentoml": Bento,
    "mlflow": Mlflow,
    "raw": Raw,
    "raw-fsync": DurableRaw,
}
_TIMES = 16
"""What there may be on the disk at once, in models: published, laid out, cached, pushed, on the node."""
_BESIDES = 3_000_000_000


@dataclass(frozen=True)
class Options:
    sizes: Sequence[int] = (10, 100, 1000)
    """MB of the model."""
    rounds: int = 3
    raw: Path = Path(".linkspan/reports/contenders.json")
    only: Sequence[str] = ()
    """Names of BY_NAME; all unless some are named."""


def compare(say: Say, options: Options) -> Record:
    """All rounds; the record is in its file meanwhile. Skips, and says why, where nobody can run."""
    if why := own_engine.unavailable() or _too_small(max(options.sizes)):
        pytest.skip(why)
    with ground(say) as here:
        with here.builder.client() as client:
            kept = Record(record.machine(client.version()["Version"]), record.today())
        able = []
        for each in [BY_NAME[name] for name in options.only or BY_NAME]:
            say(f"{each.name}: can it run here? (the first time some of them take minutes to find out)")
            if why := each.unavailable(here):
                say(f"{each.name} cannot run here: {why}")
                kept.missing[each.name] = why
            else:
                able.append(each)
        here.keep()
        kept.notes = {each.name: each.note for each in able}
        kept.without_our_layout = [each.name for each in able if not each.our_layout]

        def got(what: Sample | Refusal) -> None:
            if isinstance(what, Refusal):
                kept.missing[f"{what.contender}, {what.size} MB,"] = what.why
            else:
                kept.samples.append(what)
            kept.write(options.raw)

        play(here, able, options.sizes, options.rounds, say, got)
    return kept


def _too_small(size: int) -> str:
    """Why the disk is."""
    place = Path(tempfile.gettempdir())
    need, free = size * 1_000_000 * _TIMES + _BESIDES, shutil.disk_usage(place).free
    if free >= need:
        return ""
    return (
        f"{place} has {free / 1e9:.0f} GB free, and a model of {size} MB needs {need / 1e9:.0f} GB. "
        "Free space, set TMPDIR to a folder on a bigger disk, or ask for smaller sizes"
    )
