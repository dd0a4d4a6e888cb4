"""How the command line speaks: results on standard output, everything else on standard error.

On a terminal text is wrapped between words to its width; into a pipe every item is one line, whole.
"""

import getpass
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO

from linkspan.errors import LinkspanError
from linkspan.plain_text import plain_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# Wider than any line of ours. Rich takes 80 columns where there is no terminal, and would wrap to that.
_NO_LIMIT = 100_000
_GAP = "  "
_NARROWEST = 20


@cache
def out() -> "Console":
    """Standard output, for results."""
    return _console(sys.stdout, stderr=False)


@cache
def err() -> "Console":
    """Standard error, for everything else."""
    return _console(sys.stderr, stderr=True)


def _console(stream: TextIO, *, stderr: bool) -> "Console":
    from rich.console import Console

    width = None if stream.isatty() or os.environ.get("COLUMNS") else _NO_LIMIT
    return Console(stderr=stderr, highlight=False, soft_wrap=True, width=width)


def plain(text: object) -> str:
    """Text in which square brackets are just that, and nothing is an order to the terminal."""
    from rich.markup import escape

    return escape(plain_text(str(text), keep="\n\t"))


def columns(console: "Console", rows: Iterable[Sequence[str]], headings: Sequence[str] = ()) -> None:
    """Print rows of markup as columns that align; on a terminal the last one is wrapped to what is left.

    Between words only: an address or a command that is longer than that stays whole, to be copied.
    """
    from rich.text import Text

    marked = [f"[bold]{heading}[/]" for heading in headings]
    cells = [[Text.from_markup(cell) for cell in row] for row in [marked, *rows] if row]
    widths = [max(cell.cell_len for cell in column) + len(_GAP) for column in zip(*cells, strict=True)]
    left = max(_NARROWEST, console.width - sum(widths[:-1]))
    for *first, last in cells:
        for number, line in enumerate(_wrapped(last, left)):
            shown = Text()
            for cell, width in zip(first, widths, strict=False):
                if number == 0:
                    shown.append_text(cell)
                shown.append(" " * (width - (cell.cell_len if number == 0 else 0)))
            shown.append_text(line)
            shown.rstrip()
            console.print(shown, soft_wrap=True)


def _wrapped(text: "Text", width: int) -> list["Text"]:
    """Lines of at most `width` cells, or of one word; rich would cut a longer word in two."""
    from rich.cells import cell_len

    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        start, breaks = 0, []
        for word in re.finditer(r"\s*\S+", line.plain):
            if word.start() > start and cell_len(line.plain[start : word.end()]) > width:
                start = word.end() - len(word[0].lstrip())
                breaks.append(start)
        lines += line.divide(breaks)
    return lines


def fail(error: LinkspanError) -> None:
    """One error, in the order in which a person needs it."""
    rows = [("[bold red]error:[/]", plain(error.what))]
    rows += [
        (label, plain(value))
        for label, value in (
            ("expected:", error.expected),
            ("found:", error.found),
            ("[bold]to do:[/]", error.fix),
        )
        if value
    ]
    columns(err(), rows)


def warn(text: str) -> None:
    """Something that did not work and does not have to."""
    columns(err(), [("[bold yellow]warning:[/]", plain(text))])


def note(text: str) -> None:
    """A line about what is going on; never part of a result."""
    err().print(f"[dim]{plain(text)}[/]")


def print_json(value: Any) -> None:
    """A result for a script."""
    print(json.dumps(value, indent=2, default=str))  # noqa: T201 a result, and rich would wrap it


def whoami() -> str:
    """The user, for the history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container whose user has no name
        return f"user {os.getuid()}"


def one_line(text: str, most: int = 300) -> str:
    """`text` without line breaks, cut to `most` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def ago(at: datetime) -> str:
    """`3 min ago`."""
    seconds = max(0, int((datetime.now(UTC) - at).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
