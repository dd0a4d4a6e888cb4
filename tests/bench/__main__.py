"""`python -m tests.bench [PART ...]`: measures those parts, or all of them, and prints one table.

A part is a module of this folder with a function `measure` (figures.Measure). `contenders` has a table of its
own, a file of all samples, and options.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import contenders
from tests.bench.contenders import plot, report
from tests.bench.figures import Figure, table
from tests.needs import prepared

PARTS = ("docker", "kubernetes", "hints", "contenders")


def main() -> None:
    defaults = contenders.Options()
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").split(":")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all unless named")
    parser.add_argument(
        "--sizes", type=_numbers, default=defaults.sizes, help='of the contenders\' model, in MB: "10 100"'
    )
    parser.add_argument("--rounds", type=int, default=defaults.rounds, help="of all contenders")
    parser.add_argument("--only", type=str.split, default=(), help=f"of {' '.join(contenders.BY_NAME)}")
    parser.add_argument("--raw", type=Path, default=defaults.raw, help="where all their samples go (JSON)")
    parser.add_argument("--plot", type=Path, help="where their picture goes (SVG)")
    told = parser.parse_args()
    wanted = told.parts or PARTS
    if unknown := (set(wanted) - set(PARTS)) | (set(told.only) - set(contenders.BY_NAME)):
        parser.error(f"no such part or contender: {', '.join(sorted(unknown))}")
    # An engine that runs is used and left: others may use it too.
    with prepared({"engine"}):
        _measure(wanted, told)


def _measure(parts: Sequence[str], told: argparse.Namespace) -> None:
    console = Console(width=140) if not sys.stdout.isatty() else Console()
    figures: list[Figure] = []
    for part in parts:
        say(f"{part}:")
        try:
            if part == "contenders":
                options = contenders.Options(told.sizes, told.rounds, told.raw, told.only)
                record = contenders.compare(say, options)
                report.show(console, record)
                if told.plot:
                    told.plot.write_text(plot.svg(record))
            else:
                figures += importlib.import_module(f"tests.bench.{part}").measure(say)
        except pytest.skip.Exception as skipped:  # services say so when a machine cannot have them
            say(f"skipped: {skipped}")
    if figures:
        console.print(table(figures))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split())


def say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # all that was started is stopped by now
        sys.exit(130)
