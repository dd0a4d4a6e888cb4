"""How the demo speaks: a line per thing that happened, and one table at the end."""

import time
from getpass import getuser
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo import places
from linkspan.nouns import Noun
from linkspan.progress import size

console = Console(highlight=False, soft_wrap=True)
_STARTED = time.monotonic()


class Row(Noun):
    """A release as the demo saw it: times in seconds, from the trigger to the first answer of it."""

    revision: int
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
    console.print(f"[dim]{_clock():>6}[/] [green]✓[/] [bold]{escape(what)}[/]  {escape(detail)}")


def note(text: str) -> None:
    """Something is going on."""
    console.print(f"         [dim]{escape(text)}[/]")


def table(rows: list[Row]) -> None:
    """What each release was, what it cost."""
    shown = Table(title="Releases: seconds are from the trigger to the first answer", title_justify="left")
    for column, style in (("Rev", "right"), ("Commit + model", "left"), ("Trigger", "left")):
        shown.add_column(column, justify=style, no_wrap=column != "Trigger")  # type: ignore[arg-type]
    shown.add_column("Made new")
    for column in ("Pushed", "Seconds"):
        shown.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(
            str(row.revision), row.release, row.trigger, row.built, size(row.pushed), f"{row.seconds:.1f}"
        )
    console.print()
    console.print(shown)


def _clock() -> str:
    return f"+{time.monotonic() - _STARTED:.0f} s"


def addresses(service: str, ui: str, auth_file: Path) -> None:
    """Where to look."""
    console.print()
    console.print(f"The app      [bold]{service}[/]")
    console.print(f"Prefect UI   [bold]{ui}[/]")
    console.print(f"             [dim]it asks for one line: cat {auth_file}[/]")


def try_it(root: Path) -> None:
    """What to do next."""
    clone, home = places.CLONE.relative_to(root), places.HOME.relative_to(root)
    trained = places.TRAINED.relative_to(root) / "better"
    console.print(f"""
Now you, in another terminal, in this folder:

  [bold]export LINKSPAN_HOME=$PWD/{home} PATH=$PWD/.venv/bin:$PATH[/]
  [bold]linkspan status[/]       what is live, what is newest, what happens next
  [bold]linkspan history[/]      what was rolled out
  [bold]linkspan rollback[/]     back to the release before, and pinned there
  [bold]linkspan deploy[/]       to the newest again
  [bold]linkspan doctor[/]       checks every address and credential

A commit of yours:
  [bold]cd {clone} && sed -i 's/Draw a digit/Draw any digit/' scoring/page/*.html &&
  git commit -qam 'Any digit' && git push && cd -[/]
A model of yours:
  [bold]linkspan publish {trained} --by {getuser()} --wait[/]

[bold]Ctrl-C[/] stops all of it and removes it.""")
