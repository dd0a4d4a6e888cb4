"""The file of a run: its samples as they were measured, who could not run and why, when, on which machine."""

import json
import os
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.contenders.samples import Case, Results, Sample


@dataclass
class Record:
    """Written anew with each sample, so that what was interrupted is there as far as it got."""

    machine: str
    when: str
    samples: list[Sample] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """Who could not run, or did not get through, and why."""
    notes: dict[str, str] = field(default_factory=dict)
    without_our_layout: list[str] = field(default_factory=list)
    """Whose nodes fetch the model again for a commit."""

    @property
    def results(self) -> Results:
        return Results(self.samples)

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f"{file.name}.new")
        new.write_text(json.dumps(asdict(self), indent=1) + "\n")
        new.rename(file)


def read(files: Iterable[Path]) -> Record:
    """One run, or some that were of other sizes, together."""
    first, *others = (_record(json.loads(file.read_text())) for file in files)
    for other in others:
        first.samples += other.samples
        first.missing |= other.missing
        first.notes |= other.notes
        first.without_our_layout += [
            name for name in other.without_our_layout if name not in first.without_our_layout
        ]
        if other.machine not in first.machine:
            first.machine += f"; {other.machine}"
        if other.when not in first.when:
            first.when += f", {other.when}"
    return first


def _record(found: Mapping[str, Any]) -> Record:
    samples = [Sample(**{**each, "case": Case(each["case"])}) for each in found["samples"]]
    return Record(**{**found, "samples": samples})


def today() -> str:
    return time.strftime("%Y-%m-%d")


def machine(engine: str) -> str:
    """What it is measured on, for people."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    processor = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} cores ({processor}), {memory:.0f} GiB, Docker Engine {engine}"
