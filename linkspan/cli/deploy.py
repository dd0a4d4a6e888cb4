"""`linkspan deploy`: release on purpose, also where an environment is pinned or a pair was held back."""

import getpass
from typing import Annotated
from uuid import uuid4

import typer

from linkspan.cli.context import AppOption, Context, EnvironmentOption, JsonOption
from linkspan.cli.follow import follow
from linkspan.cli.output import note, out, print_json


def deploy(
    app: AppOption = "",
    environment: EnvironmentOption = "production",
    commit: Annotated[str, typer.Option(help="A commit instead of the newest one.")] = "",
    model: Annotated[str, typer.Option(help="A model version instead of the newest one.")] = "",
    wait: Annotated[bool, typer.Option(help="Wait until it is live.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Release the newest pair, or a named commit or model, on purpose.

    This also releases a pinned environment, and tries again what failed before.
    """
    context = Context(app, environment)
    hint = f"linkspan deploy by {getpass.getuser()}"
    once = uuid4().hex
    common = {"hint": hint, "on_purpose": True}
    # Both streams first: what was never built or packaged cannot be released. They are quick if it was.
    streams: tuple[tuple[str, dict[str, object]], ...] = (
        (context.app_deployment, {"commit": commit or None, "converge": []}),
        (context.model_deployment, {"version": model or None, "converge": []}),
    )
    for deployment, parameters in streams:
        run = context.engine.start(deployment, {**common, **parameters}, idempotency_key=f"deploy:{once}")
        note(f"{deployment}: {run.url}")
        follow(context, run.id)
    run = context.engine.start(
        context.release_deployment,
        {**common, "commit": commit or None, "model": model or None},
        idempotency_key=f"deploy:{once}",
    )
    note(f"{context.release_deployment}: {run.url}")
    ended = follow(context, run.id) if wait else None
    live = context.runtime.live(context.service) if wait else None
    if as_json:
        print_json(
            {
                "run": run.model_dump(),
                "message": ended.message if ended else "",
                "live": live and live.model_dump(mode="json"),
            }
        )
    elif live:
        out.print(f"[bold]{live.release.title}[/] is live at {context.runtime.url(context.service)}")
    elif ended:
        out.print(ended.message)
