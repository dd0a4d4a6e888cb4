"""`linkspan destroy`: the end of a service."""

from typing import Annotated

import typer

from linkspan.cli.options import AppOption, EnvironmentOption
from linkspan.cli.output import out


def destroy(
    app: AppOption = "",
    environment: EnvironmentOption = "production",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a service from where it runs, with its history.

    Images stay in the registry. The schedule would release it again: pause its deployments in Prefect first,
    and delete them afterwards; they say where it runs.
    """
    from linkspan.cli.context import Context

    context = Context(app, environment)
    if not yes:
        typer.confirm(f"Remove {context.service}, what runs of it and its history?", abort=True, err=True)
    context.runtime.destroy(context.service)
    out().print(f"{context.service} is gone.")
