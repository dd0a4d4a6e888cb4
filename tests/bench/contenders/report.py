"""`python -m tests.bench.contenders.report RAW ... [--plot FILE]`: tables and picture of recorded runs."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from tests.bench.contenders.plot import svg
from tests.bench.contenders.record import Record, read
from tests.bench.contenders.tables import headlines, markdown, notes, table


def show(console: Console, record: Record) -> None:
    """The table, what the names mean, and the two questions."""
    console.print(table(record))
    for line in [*notes(record), "", *headlines(record)]:
        console.print(line, highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.contenders.report")
    parser.add_argument("raw", nargs="+", type=Path, help="files of `make bench PARTS=contenders`")
    parser.add_argument("--plot", type=Path, help="where to write the picture (SVG)")
    told = parser.parse_args()
    record = read(told.raw)
    show(Console(width=140), record)
    sys.stdout.write("\n" + "\n".join(markdown(record)) + "\n")
    if told.plot:
        told.plot.write_text(svg(record))


if __name__ == "__main__":
    main()
