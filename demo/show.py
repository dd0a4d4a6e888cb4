"""How the demo speaks: a line per thing that happened, and one table at the end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo import places
from linkspan.nouns import Noun
from linkspan.report import size

console = Console(highlight=False, soft_wrap=True)
_STARTED = time.monotonic()


class Row(Noun):
    """A release as the demo saw it: times in seconds, from the trigger to the first answer of it."""

    release: str
    trigger: str
    built: str
    pushed: int
    seconds: float


def title(text: str) -> None:
    """The start of an act."""
    console.print(f"\n[bold cyan]{escape(text)}[/]")


def done(what: str, detail: str = "") -> None:
    """Something happened."""
    console.print(f"  [green]✓[/] [bold]{escape(what)}[/]  {escape(detail)}  [dim]{_clock()}[/]")


def note(text: str) -> None:
    """Something is going on."""
    console.print(f"    [dim]{escape(text)}[/]")


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Something takes a while."""
    with console.status(escape(text)):
        yield


def table(rows: list[Row]) -> None:
    """What each release was, what it cost."""
    shown = Table(title="Releases", title_justify="left")
    for column in ("Release", "Trigger", "Made new", "Pushed", "Trigger → answer"):
        shown.add_column(column, justify="right" if column in {"Pushed", "Trigger → answer"} else "left")
    for row in rows:
        shown.add_row(
            escape(row.release), escape(row.trigger), row.built, size(row.pushed), f"{row.seconds:.1f} s"
        )
    console.print()
    console.print(shown)


def _clock() -> str:
    return f"{time.monotonic() - _STARTED:.0f} s"


def addresses(service: str, ui: str, auth_file: Path) -> None:
    """Where to look."""
    console.print()
    console.print(f"The app      [bold]{service}[/]")
    console.print(f"Prefect UI   [bold]{ui}[/]  [dim](its password: cat {auth_file})[/]")


def try_it(root: Path) -> None:
    """What to do next."""
    clone, home = places.CLONE.relative_to(root), places.HOME.relative_to(root)
    console.print(f"""
Now you, in another terminal, in this folder:
  [bold]export LINKSPAN_HOME=$PWD/{home}[/]
  [bold].venv/bin/linkspan status[/]                 what is live, what is newest
  [bold].venv/bin/linkspan rollback[/]               back to the release before, and pinned
  [bold].venv/bin/linkspan deploy[/]                 to the newest again
  edit {clone}, commit and push     and watch it go live
[bold]Ctrl-C[/] stops all of it and removes it.""")
