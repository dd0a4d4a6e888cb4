"""`linkspan up`: a Prefect server, a worker and the receiver of webhooks for daily use, until Ctrl-C."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from linkspan.cli.output import columns, note, out, plain
from linkspan.places import HOOKS_PORT, PORT

if TYPE_CHECKING:
    from linkspan.local.services import Local

EXAMPLES = """\b
Examples:
  linkspan up
  linkspan up --prefect-file ../apps/prefect.yaml --timezone Europe/Oslo
"""


def up(
    home: Annotated[
        Path | None,
        typer.Option(envvar="LINKSPAN_HOME", metavar="FOLDER", help="Where its data and logs are kept."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the Prefect UI is.")] = PORT,
    hooks_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where webhooks are received.")
    ] = HOOKS_PORT,
    hooks_host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Where the receiver listens; a proxy with TLS stands before it."
        ),
    ] = "127.0.0.1",
    database: Annotated[
        str,
        typer.Option(
            envvar="LINKSPAN_DATABASE_URL",
            metavar="URL",
            help="postgresql+asyncpg://… for a team; default SQLite. A password belongs into the variable.",
        ),
    ] = "",
    prefect_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your prefect.yaml.", exists=True, dir_okay=False)
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Of the nightly schedule, such as Europe/Paris.")
    ] = None,
) -> None:
    """Start Prefect, a worker and the receiver of webhooks, and watch them.

    Sets them up, restarts what dies, and stops all on Ctrl-C or SIGTERM. Runs that were under way go on at
    the next start, and so do hints that were accepted.
    """
    from pydantic import SecretStr

    from linkspan.local.home import Home
    from linkspan.local.services import Local

    local = Local(
        home,
        port=port,
        hooks=(hooks_host, hooks_port),
        database_url=SecretStr(database) if database else None,
        prefect_file=prefect_file.resolve() if prefect_file else None,
        timezone=timezone,
        say=note,
    )
    with _orderly_end(), local:
        rows = [
            ("Prefect UI", f"[bold]{local.ui_url}[/]"),
            ("Password", f"in {plain(local.home.auth_file)} (user:password)"),
            *_webhooks(local),
            ("Logs", plain(local.home.logs)),
        ]
        if local.home.path != Home.default().path:
            rows.append(("Elsewhere", f"export LINKSPAN_HOME={plain(local.home.path)}"))
        columns(out(), rows)
        note("Ctrl-C stops it. In another terminal: `linkspan doctor`, `linkspan status`.")
        local.wait()
        note("Stopping; runs under way go on at the next start.")


def _webhooks(local: "Local") -> list[tuple[str, str]]:
    """Where each saved source calls, and how to get one."""
    from linkspan.webhooks.base import BLOCK

    found = sorted(local.server.blocks(BLOCK).items())
    rows = [(f"{local.hooks_url}/hooks/{name}", fields.get("provider", "")) for name, fields in found]
    if not rows:
        return [
            (
                "Webhooks",
                f"{local.hooks_url}/hooks/NAME, once `linkspan connect github` (or gitlab, …) made one",
            )
        ]
    labels = ["Webhooks", *[""] * (len(rows) - 1)]
    return [(label, plain(f"{url} ({who})")) for label, (url, who) in zip(labels, rows, strict=True)]


@contextmanager
def _orderly_end() -> Iterator[None]:
    """SIGTERM during the start, before `wait` looks for it, stops what has been started too."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
