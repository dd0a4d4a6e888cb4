"""How the command line speaks: results on standard output, everything else on standard error."""

import json
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape

from linkspan.errors import LinkspanError

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def fail(error: LinkspanError) -> None:
    """One error, in the order in which a person needs it."""
    err.print(f"[bold red]error:[/] {escape(error.what)}")
    for label, value in (("expected", error.expected), ("found", error.found), ("to do", error.fix)):
        if value:
            err.print(f"  {label + ':':<10}{escape(value)}")


def note(text: str) -> None:
    """A line about what is going on; never part of a result."""
    err.print(f"[dim]{escape(text)}[/]")


def print_json(value: Any) -> None:
    """A result for a script."""
    print(json.dumps(value, indent=2, default=str))  # noqa: T201 a result, and rich would wrap it


def ago(at: datetime | None) -> str:
    """`3 min ago`."""
    if at is None:
        return ""
    seconds = max(0, int((datetime.now(UTC) - at).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
