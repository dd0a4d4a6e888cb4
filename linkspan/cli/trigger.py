"""`linkspan trigger`: what a git hook or a script calls to say that something may have changed."""

import enum
from typing import Annotated
from uuid import uuid4

import typer

from linkspan.cli.context import AppOption, Context, EnvironmentOption
from linkspan.cli.output import note


class Stream(enum.StrEnum):
    """What may have changed."""

    COMMIT = "commit"
    MODEL = "model"
    RELEASE = "release"


def trigger(
    what: Annotated[Stream, typer.Argument(help="What may have changed.")],
    app: AppOption = "",
    environment: EnvironmentOption = "production",
    hint: Annotated[str, typer.Option(help="Who or what saw it, for people.")] = "",
    key: Annotated[str, typer.Option(help="The same key starts one run, however often it is said.")] = "",
    patience: Annotated[
        float, typer.Option(help="Seconds to go on while the Prefect server is away.")
    ] = 60.0,
) -> None:
    """Start a stream, exactly once per key. It looks for itself what is newest."""
    context = Context(app, environment)
    deployment = {
        Stream.COMMIT: context.app_deployment,
        Stream.MODEL: context.model_deployment,
        Stream.RELEASE: context.release_deployment,
    }[what]
    run = context.engine.start(
        deployment, {"hint": hint}, idempotency_key=f"trigger:{key or uuid4().hex}", patience=patience
    )
    note(f"{deployment} {'started' if run.created else 'was started before'} as {run.name}: {run.url}")
