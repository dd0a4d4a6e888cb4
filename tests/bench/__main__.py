"""`python -m tests.bench [PART ...]`: measures those parts, or all of them, and prints one table.

A part is a module of this folder with a function `measure` (figures.Measure).
"""

import argparse
import importlib
import sys
import time

import pytest
from rich.console import Console

from tests.bench.figures import Figure, table

PARTS = ("kubernetes", "hints")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").split(":")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all unless named")
    wanted = parser.parse_args().parts or PARTS
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    figures: list[Figure] = []
    for part in wanted:
        say(f"{part}:")
        try:
            figures += importlib.import_module(f"tests.bench.{part}").measure(say)
        except pytest.skip.Exception as skipped:  # services say so when a machine cannot have them
            say(f"skipped: {skipped}")
    console = Console(width=110) if not sys.stdout.isatty() else Console()
    console.print(table(figures))


def say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


if __name__ == "__main__":
    main()
