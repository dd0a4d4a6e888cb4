"""`linkspan publish`: what a data scientist types."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from linkspan.cli.options import AppOption, EnvironmentOption, JsonOption
from linkspan.cli.output import err, note, out, plain, print_json, warn, whoami
from linkspan.errors import ConfigError, ServerError, SourceError

if TYPE_CHECKING:
    from linkspan.cli.context import Context
    from linkspan.nouns import Model
    from linkspan.prefect_api.server import RunRef

# The model is published by then; a server that is away longer than this is left to the schedule.
PATIENCE = 20.0

EXAMPLES = """\b
Examples:
  linkspan publish digits.onnx --metric accuracy=0.98
  linkspan publish trained/ --metrics trained/metrics.json --wait
  linkspan publish trained/ --version 1.4.2 --json
"""


def publish(
    path: Annotated[
        Path,
        typer.Argument(help="A model's file, or a folder with all its files.", exists=True),
    ],
    app: AppOption = "",
    environment: EnvironmentOption = "production",
    name: Annotated[
        str,
        typer.Option(metavar="NAME", help="The model. Default: the one that the app's linkspan.toml names."),
    ] = "",
    version: Annotated[
        str, typer.Option(help="Default: the next number. Versions have an order: v12, 1.4.2, 2026.11.22.")
    ] = "",
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", metavar="NAME=NUMBER", help="How good it is; may be repeated."),
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A JSON file of metrics.", exists=True, dir_okay=False),
    ] = None,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who publishes. Default: you.")] = "",
    allow_older: Annotated[
        bool, typer.Option("--allow-older", help="Publish a version older than the newest.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the model is live.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish a model and start its way to production."""
    from linkspan.cli.context import Context
    from linkspan.cli.follow import follow_to_live
    from linkspan.cli.measured import read_metrics
    from linkspan.models import publish as publish_model
    from linkspan.models.validate import validate
    from linkspan.nouns import version_order

    measured = read_metrics(metric or [], metrics)
    try:
        context = Context(app, environment)
        settings = context.store_settings
    except ServerError as error:
        raise type(error)(
            f"nothing was published: {error.what}", expected=error.expected, found=error.found, fix=error.fix
        ) from None
    if settings.plain_objects:
        raise ConfigError(
            f"the model store of {context.app} follows plain objects: a published version would not be seen",
            expected=", ".join(settings.plain_objects),
            fix="Overwrite those objects, or leave `plain_objects` empty in the block and publish again",
        )
    model_name = _model_name(context, name)
    objects = settings.objects()
    # What model-stream would refuse is refused here, before a byte is uploaded.
    checked = validate({path.name: path} if path.is_file() else path)
    with _bar(f"Uploading to {objects.url}", _size(path)) as progress:
        model = publish_model(
            objects,
            model_name,
            path,
            version=version or None,
            metrics=measured,
            published_by=by or whoami(),
            signature=checked.signature,
            allow_older=allow_older,
            progress=progress,
        )
    if not as_json:
        out().print(
            f"Published [bold]{plain(model.name)} {plain(model.version)}[/] ({model.size:,} bytes) "
            f"to {plain(objects.url)}"
        )
    run, problem = _announce(context, model)
    if problem is not None:
        told = f"{model.name} {model.version} is published, but its run could not be started: {problem.what}"
        if wait:
            raise type(problem)(told, fix=f"The schedule of {context.model_deployment} will find it")
        warn(f"{told}. The schedule of {context.model_deployment} will find it")
    elif run and not as_json:
        note(f"{context.model_deployment} takes it from here: {run.url}")
    live = None
    if wait and run:
        # By now somebody else may have published a newer one: then that is what goes live.
        ours = version_order(model.version)
        live = follow_to_live(context, run.id, lambda release: version_order(release.model.version) >= ours)
    if as_json:
        shown = run.model_dump() if run else None
        print_json({"model": model.model_dump(mode="json"), "run": shown, "live": live})


def _announce(context: "Context", model: "Model") -> "tuple[RunRef | None, ServerError | None]":
    """Start model-stream: a failure is told, not raised, for the model is published."""
    from linkspan.events import MODEL_PUBLISHED, model_resource

    hint = f"{model.name} {model.version} published by {model.published_by}"
    key = f"publish:{model.name}:{model.version}:{uuid4().hex}"
    try:
        run = context.start(context.model_deployment, {"hint": hint}, once=key, patience=PATIENCE)
    except ServerError as error:
        return None, error
    try:
        context.server.emit(MODEL_PUBLISHED, model_resource(model.name), model.model_dump(mode="json"))
    except ServerError as error:
        warn(f"it is published, but not in the event feed: {error.what}")
    return run, None


def _model_name(context: "Context", name: str) -> str:
    """The model that the newest commit takes, unless another name is asked for."""
    try:
        config = context.newest_config
    except SourceError as error:
        if name:
            return name
        raise type(error)(
            f"nothing was published: the repository of {context.app} cannot say which model it takes",
            found=error.what,
            fix="Name the model with --name",
        ) from None
    wanted = config.model.name if config else ""
    if name and wanted and name != wanted:
        warn(f"the newest commit of {context.app} takes model {wanted}, so nobody will release {name}")
    return name or wanted or context.app


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing in a pipe; yields what counts further bytes."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err(), transient=True, disable=not err().is_terminal) as bars:
        task = bars.add_task(plain(title), total=total)
        yield lambda count: bars.advance(task, count)
