"""`linkspan up`: a Prefect server and a worker for daily use, until Ctrl-C."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from linkspan.cli.output import note, out
from linkspan.local.services import PORT, Local


def up(
    home: Annotated[
        Path | None, typer.Option(envvar="LINKSPAN_HOME", help="Where its data and logs are kept.")
    ] = None,
    port: Annotated[int, typer.Option(help="Where the Prefect UI is.")] = PORT,
    database: Annotated[
        str,
        typer.Option(
            envvar="LINKSPAN_DATABASE_URL", help="postgresql+asyncpg://… for a team; default SQLite."
        ),
    ] = "",
    prefect_file: Annotated[Path | None, typer.Option(help="Your prefect.yaml.", exists=True)] = None,
    timezone: Annotated[
        str | None, typer.Option(help="Of the nightly schedule, such as Europe/Paris.")
    ] = None,
) -> None:
    """Start the Prefect server and a worker, set both up, and watch them until Ctrl-C."""
    local = Local(
        home,
        port=port,
        database_url=SecretStr(database) if database else None,
        prefect_file=prefect_file,
        timezone=timezone,
        say=note,
    )
    with local:
        out.print(f"Prefect UI    [bold]{local.ui_url}[/]")
        out.print(f"Password      in {local.home.auth_file} (user:password)")
        out.print(f"Logs          {local.home.logs}")
        out.print("Ctrl-C stops it; runs under way go on at the next start.")
        local.wait()
